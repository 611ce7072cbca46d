"""What a measurement ran on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mmatconv.version import __version__

# By import name, what may provide it.
PACKAGES = {
    'triton': ('triton', 'pytorch-triton-rocm'),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
}


def machine(device: str) -> dict[str, str | int]:
    """CPU, cores, threads and, for 'cuda', the GPU and where it uses TF32."""
    found = dict(cpu=cpu_model(), cores=os.cpu_count() or 1, threads=torch.get_num_threads())
    if device == 'cuda':
        found['gpu'] = torch.cuda.get_device_name()
        found['tf32'] = tf32_mode()
    return found


def tf32_mode() -> str:
    """Where float32 is computed in TF32 on a GPU: 'convolutions' is torch's default."""
    used = {'convolutions': torch.backends.cudnn.allow_tf32, 'products': torch.backends.cuda.matmul.allow_tf32}
    return ' and '.join(name for name, on in used.items() if on) or 'off'


def cpu_model() -> str:
    """The name the processor gives itself."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), '')
    return name or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python, torch with its CUDA or ROCm, this package, and what candidates come from."""
    found = dict(python=platform.python_version(), torch=torch.__version__, mmatconv=__version__)
    if torch.version.cuda or torch.version.hip:
        found['rocm' if torch.version.hip else 'cuda'] = torch.version.hip or torch.version.cuda
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found
