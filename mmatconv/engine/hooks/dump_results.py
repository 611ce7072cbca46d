"""tools/test.py --out: the predictions in a file."""

from typing import Any

from mmengine.evaluator import DumpResults


class DumpSegResults(DumpResults):
    """Dumps label maps as small as they are, without the ground truth and a float for each class and pixel."""

    default_prefix = 'dump'

    def process(self, data_batch: Any, predictions: list[dict]) -> None:
        """Keeps the label map and what tells which image it is of."""
        kept = []
        for prediction in predictions:
            slim = {key: value for key, value in prediction.items() if key not in ('seg_logits', 'gt_sem_seg')}
            labels = slim['pred_sem_seg']['data']
            slim['pred_sem_seg'] = dict(data=labels.byte() if labels.max() < 256 else labels.short())
            kept.append(slim)
        super().process(data_batch, kept)


def dump_metric(scope: str, file: str) -> DumpResults:
    """The metric that writes predictions to `file` for a package."""
    if scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=file)
    return DumpSegResults(file) if scope == 'mmseg' else DumpResults(file)
