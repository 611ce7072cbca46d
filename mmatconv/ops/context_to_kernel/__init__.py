"""Context-to-kernel (C2K): the pooling of a map, and kernels from the context."""
