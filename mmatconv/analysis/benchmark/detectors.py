"""Whole detectors and segmentors from the configs: ours in all forms, and the same with PVT or Swin.

What follows a network's outputs is left out: targets and losses in training, boxes from deltas and NMS in evaluation.
It is the same for every backbone, and how much of it there is depends on what an untrained model happens to see. A
two-stage detector works on a fixed number of random boxes for the same reason, RoIAlign included.
"""

from importlib.util import find_spec

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmatconv.analysis.benchmark.backbone_variants import RELEASED, variants
from mmatconv.analysis.benchmark.case import Candidate, Case, Setting
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.build_model import build_model, quiet
from mmatconv.analysis.complexity.counted_forward import is_two_stage
from mmatconv.analysis.paper.models import mask_rcnn, swin
from mmatconv.engine.cli.config_file import PROJECT, load_config
from mmatconv.errors import UserError

FOLDERS = {'mask_rcnn': '_fpn_1x_coco', 'sem_fpn': '_8xb4-40k_ade20k-512x512'}
DEFAULT_MODELS = ('mask-rcnn_atconv-pvt-t', 'fpn_atconv-pvt-t')
SWIN_ARCHES = {'t': 'tiny', 's': 'small', 'b': 'base'}


class Network(nn.Module):
    """The part of a model that is timed: from images to what its heads compute.

    Args:
        model: Detector or segmentor.
        boxes: (N, 5), index of the image and corners in pixels, for the box heads of a two-stage detector. Default:
            None, a model without.
        mask_boxes: (M, 5), the same for its mask heads. Default: None.
    """

    def __init__(self, model: nn.Module, boxes: Tensor | None = None, mask_boxes: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.register_buffer('boxes', boxes)
        self.register_buffer('mask_boxes', mask_boxes)

    def forward(self, images: Tensor) -> list:
        """(B, 3, H, W) -> what the heads return."""
        if self.boxes is None:
            return [self.model(images, mode='tensor')]
        maps = self.model.extract_feat(images)
        heads = self.model.roi_head
        outputs = [self.model.rpn_head(maps)]
        groups = [(heads.bbox_head, heads.bbox_roi_extractor, self.boxes)]
        if heads.with_mask:
            groups.append((heads.mask_head, heads.mask_roi_extractor, self.mask_boxes))
        for head, extractor, boxes in groups:
            outputs.append(head(extractor(maps[: extractor.num_inputs], boxes)))
        return outputs


def random_boxes(count: int, setting: Setting) -> Tensor:
    """``count`` boxes in each image, (B * count, 5): index of the image, then left, top, right, bottom in pixels."""
    generator = torch.Generator().manual_seed(3)
    height, width = setting.size
    corners = torch.rand(setting.batch * count, 2, 2, generator=generator).sort(dim=1).values
    corners = corners * torch.tensor([width, height])
    image = torch.arange(setting.batch).repeat_interleave(count).unsqueeze(1)
    return torch.cat([image.to(corners), corners.flatten(1)], dim=1)


def available() -> dict[str, str]:
    """Configs of the project that can be timed, by name: 'mask-rcnn_attnet-t2', 'fpn_atconv-pvt-t'."""
    found = {}
    for folder, ending in FOLDERS.items():
        for path in sorted((PROJECT / 'configs' / folder).glob(f'*{ending}.py')):
            name = path.stem.removesuffix(ending)
            if '_pvt-' not in name:
                found[name] = str(path)
    return found


def check_packages() -> None:
    """Configs of detectors and segmentors need OpenMMLab's packages, which the other levels do without.

    Raises:
        UserError: One is not installed.
    """
    missing = [package for package in ('mmcv', 'mmdet', 'mmseg') if find_spec(package) is None]
    if missing:
        raise UserError(
            f'--level detector needs {", ".join(missing)}, which cannot be found; install the packages with '
            "'pip install mmatconv[onedl]', or use --level operator, block or backbone"
        )


def detector_case(name: str, setting: Setting) -> Case:
    """A detector or segmentor with our backbone in all forms and, where there is one, with the original backbone.

    Args:
        name: A key of :func:`available`.
        setting: The setting.
    """
    check_packages()
    path = available()[name]
    x = setting.random(3)

    def make(options: dict) -> nn.Module:
        config = load_config(path)
        config.model.backbone.update(options)
        network = wrap(config, setting)
        randomize(network.model.backbone)
        return network

    candidates = list(variants(make, lambda network: network.model.backbone, x, setting))
    reference, config = _original(name, path)
    if config is not None:
        candidates.append(Candidate(reference, wrap(config, setting).to(setting.device), (x,)))
    return Case('detector', name, setting, reference, candidates, autocast=True, has_kinks=True)


def wrap(config: Config, setting: Setting) -> Network:
    """The network of a config, weights random and the same in every call."""
    config.model.backbone.pop('init_cfg', None)
    torch.manual_seed(0)
    with quiet():
        model = build_model(config, 'cpu')
    if not is_two_stage(model):
        return Network(model)
    return Network(model, *(random_boxes(count, setting) for count in setting.rois))


def _original(name: str, path: str) -> tuple[str, Config | None]:
    if '_atconv-pvt-' in name:
        return 'pvt', load_config(path.replace('_atconv-pvt-', '_pvt-'))
    if name.startswith('mask-rcnn_atconv-swin-'):
        with quiet():
            return 'swin', mask_rcnn(swin(SWIN_ARCHES[name.rpartition('-')[2]]))
    return RELEASED, None
