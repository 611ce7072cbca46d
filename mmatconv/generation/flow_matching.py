"""SiT as a model of MMEngine: what tools/train.py trains and tools/sample.py samples."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from mmatconv.errors import UserError
from mmatconv.generation.flow import guided, integrate, velocity_loss


@MODELS.register_module()
class FlowMatching(BaseModel):
    """Learns the velocity of the linear path from noise to images, or to latents, and generates them.

    Args:
        backbone: Config of the network, ``dict(type='mmatconv.SiT', ...)``.
        data_preprocessor: Its ``mean`` and ``std`` bring the data to about unit variance, and samples back.
        latents: Whether samples are latents, for a decoder, and not pixels from 0 to 255. Default: False.
        init_cfg: As in MMEngine. Default: None.
    """

    def __init__(
        self,
        backbone: dict,
        data_preprocessor: dict | None = None,
        latents: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.latents = latents

    def forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = 'loss'
    ) -> dict[str, Tensor]:
        """The loss, of normalised (B, C, H, W); labels are the ``gt_label`` of the data samples, where they have one.

        Raises:
            UserError: Another ``mode``, or a label that the network has no vector for.
        """
        if mode != 'loss':
            raise UserError(f'{type(self).__name__} has no mode {mode!r}; tools/sample.py CONFIG CHECKPOINT generates.')
        return dict(loss=velocity_loss(self.backbone, inputs, self._labels(data_samples, inputs.device)))

    def _labels(self, data_samples: Sequence[Any] | None, device: torch.device) -> Tensor | None:
        count = self.backbone.num_classes
        if count == 1:
            return None
        if not data_samples or any('gt_label' not in sample for sample in data_samples):
            raise UserError(
                f'model.backbone.num_classes is {count}, but the data set has no labels; give it one folder for each '
                'class and with_label=True, or train without classes: num_classes=1 and class_dropout_prob=0'
            )
        labels = torch.cat([sample.gt_label for sample in data_samples])
        if int(labels.max()) >= count:
            raise UserError(
                f'model.backbone.num_classes is {count}, but the data set has a label {int(labels.max())}; '
                'set num_classes to the number of class folders'
            )
        return labels.to(device)

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        labels: Tensor,
        steps: int,
        solver: str = 'heun',
        guidance: float = 1.0,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:
        """Generate.

        Args:
            noise: (B, C, H, W), unit normal.
            labels: (B,).
            steps: Steps from noise to data.
            solver: 'euler' or 'heun'. Default: 'heun'.
            guidance: Scale of classifier-free guidance, of all channels. Default: 1, none.
            progress: Called after each step. Default: None.

        Returns:
            (B, C, H, W) in the units of the data set: pixels from 0 to 255 (not yet cut off there), or latents.

        Raises:
            UserError: Guidance of a network that was not trained for it.
        """
        network = self.backbone
        if guidance == 1:
            x = integrate(lambda x, t: network(x, t, labels), noise, steps, solver, progress)
        elif network.can_guide:
            x = integrate(guided(network, labels, network.num_classes, guidance), noise, steps, solver, progress)
        else:
            raise UserError(
                f'a guidance of {guidance} needs a model with classes that training hid now and then '
                '(class_dropout_prob above 0); leave it out'
            )
        mean, std = (getattr(self.data_preprocessor, name, None) for name in ('mean', 'std'))
        return x if mean is None else x * std + mean
