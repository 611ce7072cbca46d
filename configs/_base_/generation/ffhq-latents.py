"""SiT on FFHQ at 512 x 512 pixels in latents of 64 x 64, without classes, as the released sit_atconv_*.txt have it.

They differ from ImageNet-1K's training in the batch, 128, and in having one class, never hidden.
"""

_base_ = ['./in1k-latents.py']

data_hint = (
    'a folder with a .npy file for each image, (4, 64, 64) latents of the autoencoder stabilityai/sd-vae-ft-ema before '
    'any scaling, or (8, 64, 64), their mean and standard deviation'
)
model = dict(backbone=dict(input_size=64, num_classes=1, class_dropout_prob=0.0))
train_dataloader = dict(batch_size=16, dataset=dict(data_root='data/ffhq_latents', data_prefix='', with_label=False))
auto_scale_lr = dict(base_batch_size=128)
