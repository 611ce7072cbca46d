"""SemanticFPN, AttNet-T2, ADE20K, 40k iterations of 32 images, with PVT's recipe; the paper has no such row."""

_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    'mmseg::_base_/default_runtime.py',
]

pretrained_hint = (
    'download the released AttNet weights (SharePoint folder linked from github.com/price112/Attentive-Convolution) '
    'and put them there under this name'
)

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmatconv.AttNet',
        arch='T2',
        out_indices=(0, 1, 2, 3),
        # Four images a GPU are too few for batch statistics.
        norm_eval=True,
        # The stages end in unnormalised residual sums.
        out_norm=True,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/attnet-t2_in1k.pth'),
    ),
    neck=dict(in_channels=[64, 128, 288, 512]),
    decode_head=dict(num_classes=150),
)

# 8 GPUs x 4 images; --auto-scale-lr adapts to others.
auto_scale_lr = dict(enable=False, base_batch_size=32)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    # No decay on norms, biases, LayerScale and difference_control: all one-dimensional.
    paramwise_cfg=dict(norm_decay_mult=0.0, flat_decay_mult=0.0),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
# Interrupting loses at most 4000 iterations; the last three checkpoints and the best stay.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
