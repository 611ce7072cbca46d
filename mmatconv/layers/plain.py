"""Whether a fast path may read the parameters of a layer instead of calling it."""

from torch import nn
from torch.nn.modules import module as hooks_of_all

_GLOBAL_HOOKS = (
    hooks_of_all._global_forward_pre_hooks,
    hooks_of_all._global_forward_hooks,
    hooks_of_all._global_backward_pre_hooks,
    hooks_of_all._global_backward_hooks,
)


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling ``layer`` does what ``kind.forward`` does and nothing else.

    False for a subclass or a wrapper (LoRA, quantisation, FSDP), for parametrisations, which swap the class, for hooks
    of any kind, on the layer or on all modules, and for a ``forward`` set on the instance.
    """
    if type(layer) is not kind:
        return False
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return False
    if 'forward' in layer.__dict__:
        return False
    first, second, third, fourth = _GLOBAL_HOOKS
    return not (first or second or third or fourth)
