"""Metadata of the package; the build back-end and the tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version: dict[str, str] = {}
exec((ROOT / 'mmatconv' / 'version.py').read_text(), version)

# Neither OpenMMLab distribution may be a base dependency: both install the packages mmcv, mmdet, ..., and overwrite
# each other. torch is one for lack of a choice, without a version, so that a CUDA or ROCm build stays as it is.
ONEDL = [
    'onedl-mmengine>=0.10.12',
    'onedl-mmcv>=2.3.6',
    'onedl-mmdetection>=3.5.1',
    'onedl-mmsegmentation>=1.4.2',
    'onedl-mmpretrain>=1.3.6',
]
OPENMMLAB = ['mmengine>=0.10.7', 'mmcv>=2.1.0', 'mmdet>=3.3.0', 'mmsegmentation>=1.2.2', 'mmpretrain>=1.2.0']
ONNX = ['onnx', 'onnxruntime', 'onnxscript']

# MMEngine and mim look for configs and tools in .mim beside the modules. There are links in the checkout, which an
# editable installation uses as they are; a build follows them and copies files.
MIM_FILES = [
    '.mim/model-index.yml',
    '.mim/configs/**/*.py',
    '.mim/configs/**/*.yml',
    '.mim/weights/*',
    '.mim/tools/**/*.py',
    '.mim/tools/**/*.sh',
]

setup(
    name='mmatconv',
    version=version['__version__'],
    description='Attentive Convolution for OpenMMLab: detection, segmentation and classification backbones',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='MIT',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=find_packages(include=['mmatconv', 'mmatconv.*']),
    package_data={'mmatconv': [*MIM_FILES, 'analysis/browse/page.html']},
    install_requires=['torch'],
    extras_require={
        'onedl': ONEDL,
        'openmmlab': OPENMMLAB,
        'safetensors': ['safetensors'],
        'lmdb': ['lmdb'],
        'onnx': ONNX,
        'test': [
            *ONNX,
            'pytest',
            'pytest-xdist',
            'ruff',
            'build',
            'safetensors',
            'lmdb',
            'model-index',
            'setuptools',
            'wheel',
        ],
    },
    zip_safe=False,
)
