"""Parameters and FLOPs of the model of an OpenMMLab config."""

from contextlib import nullcontext

from mmengine.config import Config
from torch import nn

from mmatconv.analysis.build_model import build_model
from mmatconv.analysis.complexity.counted_forward import default_size, set_counted_forward
from mmatconv.analysis.complexity.counter import Complexity, count, counting_device
from mmatconv.analysis.complexity.projection_first import projection_first


def count_config(
    config: Config, size: tuple[int, int] | None = None, in_paper_order: bool = False
) -> tuple[nn.Module, tuple[int, int], Complexity]:
    """Count the model of a config on one image.

    Args:
        config: Of a detector, a segmentor or a classifier.
        size: Height and width in pixels. Default: that of the task in ``counted_forward.DEFAULT_SIZES``.
        in_paper_order: Count ATConv as algorithm 1 of the paper has it, see :func:`projection_first`. Default: False.

    Returns:
        The model, the size, the count.

    Raises:
        UserError: The config has no model, or one that is not a detector, segmentor or classifier.
    """
    try:
        return _count(build_model(config, counting_device()), size, in_paper_order)
    except (NotImplementedError, RuntimeError, TypeError):
        # The model reads numbers while it runs; a second failure is the model's own.
        return _count(build_model(config, 'cpu'), size, in_paper_order)


def _count(
    model: nn.Module, size: tuple[int, int] | None, in_paper_order: bool
) -> tuple[nn.Module, tuple[int, int], Complexity]:
    size = size or default_size(model)
    set_counted_forward(model, size)
    with projection_first(model) if in_paper_order else nullcontext():
        return model, size, count(model, (1, 3, *size))
