"""What a box head or mask head sees of each proposal."""

import torch
from torch import Tensor, nn

from mmatconv.deploy.export.checks import refuse_other, refuse_settings
from mmatconv.deploy.export.operators import roi_align


class RoIFeatures(nn.Module):
    """mmdet's SingleRoIExtractor with mmcv's RoIAlign: each proposal from the level that suits its size.

    Every level aligns all proposals, those of other levels as boxes without area, which cost nothing where the number
    of samples follows the area; the number of proposals of a level need not be known.

    Raises:
        UserError: An extractor or a layer that is not covered.
    """

    def __init__(self, extractor: nn.Module, name: str) -> None:
        super().__init__()
        refuse_other(extractor, name, ['SingleRoIExtractor'])
        for layer in extractor.roi_layers:
            refuse_other(layer, f'{name}.roi_layer', ['RoIAlign'])
            refuse_settings(f'{name}.roi_layer', {'pool_mode': (layer.pool_mode, 'avg')})
            refuse_settings(f'{name}.roi_layer', {'output_size': (layer.output_size, (layer.output_size[0],) * 2)})
        self.layers = [
            (layer.output_size[0], float(layer.spatial_scale), int(layer.sampling_ratio), bool(layer.aligned))
            for layer in extractor.roi_layers
        ]
        self.finest = float(extractor.finest_scale)

    def forward(self, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
        """Maps (1, C, H, W) of every level and boxes (N, 4) -> (N, C, S, S)."""
        maps = maps[: len(self.layers)]
        if len(maps) == 1:
            return roi_align(maps[0], boxes, *self.layers[0])
        level = self._level_of(boxes)
        features = None
        for index, (x, layer) in enumerate(zip(maps, self.layers)):
            mine = level == index
            aligned = roi_align(x, torch.where(mine[:, None], boxes, 0.0), *layer)
            features = aligned if features is None else torch.where(mine[:, None, None, None], aligned, features)
        return features

    def _level_of(self, boxes: Tensor) -> Tensor:
        width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        level = torch.floor(torch.log2((width * height).sqrt() / self.finest + 1e-6))
        return level.clamp(0, len(self.layers) - 1)
