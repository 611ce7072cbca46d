"""The checkpoint of a training -> what of it others need."""

import os

from mmatconv.checkpoint.loading import read_checkpoint, state_dict_of
from mmatconv.deploy.conversion import Conversion, rename
from mmatconv.errors import UserError

# What of MMEngine's notes on a training describes the weights; the rest names the machine, its folders and hooks.
PUBLISHED_NOTES = ('dataset_meta', 'epoch', 'iter', 'mmengine_version')


def publishable(source: str | os.PathLike) -> Conversion:
    """The weights of a training's checkpoint, and the classes they were trained for.

    MMEngine's EMAHook saves the averaged weights under 'state_dict' and those being trained under 'ema_state_dict',
    so the first are the ones to publish.

    Raises:
        UserError: The file is not a readable checkpoint, or not one that MMEngine wrote.
    """
    checkpoint = read_checkpoint(source)
    if not isinstance(checkpoint.get('state_dict'), dict):
        raise UserError(
            f"checkpoint '{source}' is not one of a training with MMEngine: it has no entry 'state_dict', but "
            f'{", ".join(map(repr, list(checkpoint)[:4]))}; convert_names.py converts released ones.'
        )
    notes = checkpoint.get('meta') if isinstance(checkpoint.get('meta'), dict) else {}
    conversion = rename(source, checkpoint, state_dict_of(checkpoint), {})
    conversion.meta = {name: notes[name] for name in PUBLISHED_NOTES if name in notes}
    conversion.dropped.pop('meta', None)
    left = [name for name in notes if name not in conversion.meta]
    if left:
        conversion.dropped['meta'] = ', '.join(left)
    if 'ema_state_dict' in conversion.dropped:
        conversion.dropped['ema_state_dict'] += '; the averaged weights are those in state_dict'
    return conversion
