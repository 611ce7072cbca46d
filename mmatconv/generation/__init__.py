"""Image generation by flow matching: SiT with attention, ATConv or both (table VIII). The network needs torch alone."""

from mmatconv.generation.sit import SiT

__all__ = ['SiT']
