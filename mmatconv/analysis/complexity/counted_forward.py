"""Which part of an OpenMMLab model's forward pass is counted, and at what input size."""

from functools import partial

from torch import Tensor, nn

from mmatconv.backbones.base import Backbone
from mmatconv.errors import UserError
from mmatconv.openmmlab.padding_guard import set_current_mask

# RoIs a two-stage detector is counted on: proposals for the box heads, kept boxes for the mask heads.
BOX_ROIS, MASK_ROIS = 1000, 100

# By the base class of the model. 800x1280 is the paper's size for detection, 512x2048 for segmentation, where mmseg's
# own tool takes 2048x1024.
DEFAULT_SIZES = {'BaseDetector': (800, 1280), 'BaseSegmentor': (512, 2048), 'BaseClassifier': (224, 224)}


def default_size(model: nn.Module) -> tuple[int, int]:
    """Height and width a model is counted at unless something else is asked for.

    Raises:
        UserError: It is not a detector, segmentor or classifier.
    """
    kinds = [kind.__name__ for kind in type(model).__mro__]
    found = next((size for kind, size in DEFAULT_SIZES.items() if kind in kinds), None)
    if found is None:
        raise UserError(
            f'model type {type(model).__name__} cannot be counted; detectors of mmdet, segmentors of mmseg and '
            'classifiers of mmpretrain can.'
        )
    return found


def is_two_stage(model: nn.Module) -> bool:
    """Whether a detector has heads that work on regions of interest (RoIs)."""
    return getattr(model, 'roi_head', None) is not None


def set_counted_forward(model: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Replace ``forward`` by the part that is counted: from a batch of images to the outputs of the heads.

    Pre- and postprocessing (normalisation, boxes from deltas, NMS, RoIAlign) are left out. A two-stage detector runs
    its box heads on 1000 RoIs and its mask heads on 100 whatever the image holds.

    Args:
        model: Detector, segmentor or classifier.
        size: Height and width of the images.

    Returns:
        The model.

    Raises:
        UserError: It is not a detector, segmentor or classifier.
    """
    default_size(model)
    for module in model.modules():
        if isinstance(module, Backbone):  # whole images: nothing is masked
            module.mask_padding = False
    set_current_mask(None)
    if is_two_stage(model):
        model.forward = partial(_forward_two_stage, model)
    elif 'BaseDetector' in [kind.__name__ for kind in type(model).__mro__]:
        from mmdet.structures import DetDataSample

        shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        sample = DetDataSample(metainfo=dict.fromkeys(shapes, size))
        model.forward = partial(model.forward, data_samples=[sample])
    return model


def _forward_two_stage(model: nn.Module, images: Tensor) -> list:
    maps = model.extract_feat(images)
    heads = model.roi_head
    outputs = [model.rpn_head(maps)] if model.with_rpn else []
    groups = [(heads.bbox_head, heads.bbox_roi_extractor, BOX_ROIS)]
    if heads.with_mask:
        groups.append((heads.mask_head, heads.mask_roi_extractor, MASK_ROIS))
    for head, extractor, rois in groups:
        # A cascade has one of each for every stage.
        for stage, pool in zip(head, extractor) if isinstance(head, nn.ModuleList) else [(head, extractor)]:
            regions = maps[0].new_zeros(rois, pool.out_channels, *pool.roi_layers[0].output_size)
            outputs.append(stage(heads.shared_head(regions) if heads.with_shared_head else regions))
    return outputs
