"""The same on latents without classes, a mean and a deviation in each file."""

_base_ = ['./sit.py']

model = dict(
    backbone=dict(in_channels=4, num_classes=1, class_dropout_prob=0.0, token_mixer='atconv', learn_sigma=True),
    data_preprocessor=dict(mean=[0.0] * 4, std=[4.0] * 4, to_rgb=False),
    latents=True,
)
train_dataloader = dict(
    dataset=dict(
        data_root='latents',
        with_label=False,
        extensions=('.npy',),
        pipeline=[dict(type='mmatconv.LoadLatent'), dict(type='PackInputs')],
    ),
)
