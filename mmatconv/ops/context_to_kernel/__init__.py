"""Context-to-kernel (C2K): the pooling of a map, and kernels from the context."""

from mmatconv.ops.context_to_kernel.custom_operator import context_pool, generate_kernels

__all__ = ['context_pool', 'generate_kernels']
