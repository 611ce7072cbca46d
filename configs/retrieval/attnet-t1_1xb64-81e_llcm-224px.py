"""AttNet-T1 on LLCM: table VII of arXiv 2510.20092."""

_base_ = ['../_base_/retrieval/llcm.py', '../_base_/backbones/attnet-t1.py']

model = dict(
    backbone=dict(**_base_.backbone, init_cfg=_base_.weights),
    head=dict(in_channels=_base_.channels[-1]),
)
