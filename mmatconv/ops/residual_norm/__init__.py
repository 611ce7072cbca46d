"""The residual sum of a block and the LayerNorm behind it."""
