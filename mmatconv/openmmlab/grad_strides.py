"""A warning of DistributedDataParallel that no user of this package can do anything about."""

import warnings

from mmatconv.openmmlab.log import log_change

GRAD_STRIDES = 'Grad strides do not match bucket view strides'


def ignore_grad_strides() -> None:
    """Drop what DistributedDataParallel says of gradients whose strides are not those of its buckets.

    Gradients of depthwise kernels come in strides of their own; torch copies them once a step, which is cheap.
    """
    warnings.filterwarnings('ignore', message=GRAD_STRIDES)
    log_change('warnings.filters', f"'{GRAD_STRIDES}' is not shown")
