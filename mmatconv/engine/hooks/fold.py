"""The hook behind tools/test.py --fold."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmatconv.deploy.folding import fold


class FoldHook(Hook):
    """Tests a folded copy of the model, see :func:`mmatconv.deploy.fold`.

    It is there from the first batch to the last: hooks that exchange weights around an epoch (EMAHook does) find the
    model they know.
    """

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Folds, before the first batch.

        Raises:
            UserError: The model has nothing to fold.
        """
        if batch_idx > 0:
            return
        self._holder, self._name = runner, 'model'
        self._original = runner.model
        while is_model_wrapper(self._original) or isinstance(self._original, BaseTTAModel):
            self._holder, self._name, self._original = self._original, 'module', self._original.module
        folded = fold(self._original)
        runner.logger.info(f'--fold: {folded.fold_report.summary()}')
        setattr(self._holder, self._name, folded)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Puts the model back, after the last batch."""
        if batch_idx + 1 == len(runner.test_dataloader):
            setattr(self._holder, self._name, self._original)
