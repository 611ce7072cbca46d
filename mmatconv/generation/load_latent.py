"""Latents from .npy files, in place of an image."""

import numpy as np
from mmengine.registry import TRANSFORMS

from mmatconv.errors import UserError


@TRANSFORMS.register_module()
class LoadLatent:
    """Reads the .npy file ``img_path`` of a sample to ``img``, (H, W, C), as the loading of an image does.

    A file holds a latent (C, H, W), or (2C, H, W), the mean and the standard deviation of one, of which each reading
    draws another: what an autoencoder gives for an image, before any scaling.

    Args:
        channels: C. Default: 4.

    Raises:
        UserError: In a call, the file is not of this kind.
    """

    def __init__(self, channels: int = 4) -> None:
        self.channels = channels

    def __call__(self, results: dict) -> dict:
        path, channels = results['img_path'], self.channels
        try:
            latent = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"'{path}' cannot be read as .npy ({error}); write it again, or remove it") from error
        kinds = (channels, 2 * channels)
        if not isinstance(latent, np.ndarray) or latent.ndim != 3 or len(latent) not in kinds:
            found = getattr(latent, 'shape', 'several arrays')
            raise UserError(
                f"'{path}' holds {found}, expected ({channels}, height, width), or ({2 * channels}, height, width) for "
                'mean and standard deviation; store each latent in a file of its own'
            )
        latent = latent.astype(np.float32)
        if len(latent) > channels:
            mean, deviation = np.split(latent, 2)
            latent = mean + deviation * np.random.standard_normal(mean.shape).astype(np.float32)
        results['img'] = latent.transpose(1, 2, 0)
        results['img_shape'] = results['ori_shape'] = latent.shape[1:]
        return results
