"""Compares a checkpoint with the model before it is loaded."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmatconv.checkpoint.loading import LoadReport, check_dtypes, compare, state_dict_of
from mmatconv.errors import UserError


class CheckpointGuardHook(Hook):
    """Compares what a checkpoint file holds with the model before it is loaded; MMEngine loads what fits and goes on.

    Args:
        exact: every tensor must fit, as in testing and resuming; otherwise at least one must, as in fine-tuning.
    """

    priority = 'LOWEST'

    def __init__(self, path: str, exact: bool) -> None:
        self.path = path
        self.exact = exact

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares, and logs how many tensors fit.

        Raises:
            UserError: the checkpoint is of another model.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        state = state_dict_of(checkpoint)
        # MMEngine looks for 'state_dict' alone; other programs write 'model'.
        checkpoint.setdefault('state_dict', state)
        report = check_state(model, state, self.path, self.exact)
        runner.logger.info(f"checkpoint '{self.path}': {report.summary()}")


def check_state(model: nn.Module, state: dict[str, torch.Tensor], path: str, exact: bool) -> LoadReport:
    """Compares a state dict with a model.

    Raises:
        UserError: with `exact`, a tensor is missing, left over or of another shape; otherwise, none fits; or one holds
            another kind of numbers.
    """
    own = model.state_dict()
    report = compare(own, state)
    check_dtypes(own, state, path)
    # A counter that evaluation does not read, and that old checkpoints lack.
    missing = [name for name in report.missing if not name.endswith('num_batches_tracked')]
    if not (missing or report.unused or report.mismatched):
        return report
    if not report.loaded:
        raise UserError(
            f"checkpoint '{path}' is of another model: none of its {len(state)} tensors fits the {len(own)} of this "
            f"config (the first is '{next(iter(state))}', expected '{next(iter(own))}'); use the config it was trained "
            'with'
        )
    if not exact or _loads(model, state):
        return report
    if report.mismatched:
        name, expected, found = report.mismatched[0]
        first = f"'{name}' is {found} in the file and {expected} in the model"
    elif missing:
        first = f"'{missing[0]}' {tuple(own[missing[0]].shape)} is not in the file"
    else:
        first = f"'{report.unused[0]}' {tuple(state[report.unused[0]].shape)} is not in the model"
    raise UserError(
        f"checkpoint '{path}' is of another model: {len(missing)} tensors of this config are missing in it, "
        f'{len(report.unused)} are left over and {len(report.mismatched)} have another shape ({first}); use the config '
        'it was trained with'
    )


def _loads(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Whether the model itself makes the tensors fit: some layers rename what older versions of them wrote."""
    try:
        left = model.load_state_dict(state, strict=False)
    except (RuntimeError, UserError):
        return False
    return not left.unexpected_keys and all(name.endswith('num_batches_tracked') for name in left.missing_keys)
