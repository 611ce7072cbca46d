"""SiT on ImageNet-1K at 256 x 256 pixels in latents of 32 x 32, 400000 iterations of 256.

From the released generation/SiT/train.py: AdamW, constant learning rate of 1e-4, no decay, batch 256, EMA of 0.9999,
latents times 0.18215, a tenth of the labels hidden (SiT's own default, which REPA keeps), bfloat16 (--amp-bf16).
400000 iterations are the paper's. Table VIII adds REPA's alignment with a pretrained encoder, which is not here.
"""

_base_ = ['./flow_matching.py']

data_hint = (
    'one folder for each class with a .npy file for each image, (4, 32, 32) latents of the autoencoder '
    'stabilityai/sd-vae-ft-ema before any scaling, or (8, 32, 32), their mean and standard deviation'
)
unscaled = 1 / 0.18215
model = dict(
    backbone=dict(input_size=32, in_channels=4, num_classes=1000, class_dropout_prob=0.1),
    data_preprocessor=dict(mean=[0.0] * 4, std=[unscaled] * 4),
    latents=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    dataset=dict(
        data_root='data/imagenet_latents',
        data_prefix='train',
        extensions=('.npy',),
        pipeline=[dict(type='mmatconv.LoadLatent'), dict(type='PackInputs')],
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
train_cfg = dict(max_iters=400_000)
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
default_hooks = dict(checkpoint=dict(interval=10_000))
