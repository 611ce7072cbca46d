"""A classifier's checkpoint with the names of the released code <-> with those of mmpretrain's ImageClassifier."""

import os
from collections.abc import Mapping

from torch import Tensor

from mmatconv.checkpoint.loading import read_checkpoint, state_dict_of
from mmatconv.checkpoint.names import RELEASED_ROOTS, is_released, to_classifier, to_released
from mmatconv.deploy.conversion import Conversion, rename
from mmatconv.deploy.infer_arch import check_released
from mmatconv.errors import UserError

# Whose names -> the entry of a .pth file that its users look for.
NAMINGS = {'mmpretrain': 'state_dict', 'released': 'model'}


def convert_names(source: str | os.PathLike, to: str, arch: str | None = None) -> Conversion:
    """The state dict of an AttNet classifier under other names.

    Everything in this package reads both namings; other programs read one of them.

    Args:
        source: For 'mmpretrain' a released file, ``{'model': state dict}`` or the bare state dict; for 'released' a
            checkpoint of mmpretrain's ImageClassifier with AttNet and LinearClsHead.
        to: 'mmpretrain' or 'released'.
        arch: 'XXS' to 'T4'. Default: None, inferred from the shapes.

    Raises:
        UserError: The file is not a readable checkpoint, or not one of such a classifier of this arch, head included.
    """
    checkpoint = read_checkpoint(source)
    state = state_dict_of(checkpoint)
    if to == 'mmpretrain':
        _check_is_released(source, state)
        renamed = {name: to_classifier(name) for name in state}
        model = check_released(state, arch, source)
    else:
        renamed = _released_names(source, state)
        model = check_released({renamed[name]: tensor for name, tensor in state.items()}, arch, source)
    return rename(source, checkpoint, state, renamed, model=model, key=NAMINGS[to])


def _check_is_released(source: str | os.PathLike, state: Mapping[str, Tensor]) -> None:
    if not is_released(state):
        odd = next((name for name in state if not name.startswith(RELEASED_ROOTS)), next(iter(state)))
        raise UserError(
            f"checkpoint '{source}' is not a released AttNet's: {odd} {tuple(state[odd].shape)} is not one of its "
            'names; --to released and publish_model.py take those of a training.'
        )


def _released_names(source: str | os.PathLike, state: Mapping[str, Tensor]) -> dict[str, str]:
    renamed = {}
    for name, tensor in state.items():
        released = to_released(name)
        if released is None:
            raise UserError(
                f"checkpoint '{source}' is not an mmpretrain classifier's: {name} {tuple(tensor.shape)} is neither "
                'backbone.* nor head.fc.*; name a checkpoint of ImageClassifier with LinearClsHead.'
            )
        renamed[name] = released
    return renamed
