"""The project's own Mask R-CNN with few channels."""

from mmengine.config import Config, ConfigDict


def mask_rcnn_config(backbone: dict, channels: list[int], width: int) -> ConfigDict:
    """The model of a config of `configs/mask_rcnn`, with another backbone.

    Args:
        backbone: Its config.
        channels: Those of its four maps.
        width: Channels of neck and heads.
    """
    model = Config.fromfile('configs/mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py').model
    model.backbone = dict(backbone)
    model.neck.update(in_channels=channels, out_channels=width)
    model.rpn_head.update(in_channels=width, feat_channels=width)
    for part in ('bbox', 'mask'):
        model.roi_head[f'{part}_roi_extractor'].out_channels = width
        model.roi_head[f'{part}_head'].in_channels = width
    model.roi_head.bbox_head.fc_out_channels = 2 * width
    model.roi_head.mask_head.conv_out_channels = width
    model.test_cfg.rcnn.score_thr = 0.0
    return model
