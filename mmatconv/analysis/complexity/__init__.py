"""Parameters and FLOPs: the counter, what is counted of an OpenMMLab model, and ATConv in the order of the paper.

MMEngine's counter is the one used everywhere here. It follows fvcore, whose totals the paper prints: norms, resampling
and pooling count, and a multiply-add is one FLOP. torch's own FlopCounterMode counts matrix products and convolutions
only, two FLOPs for each multiply-add, so its figures cannot be compared with the paper's.
"""
