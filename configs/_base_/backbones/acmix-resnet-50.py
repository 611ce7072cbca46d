"""ACmix-ResNet-50, 18.3 million parameters with its 1000-way head."""

pretrained_hint = 'no ImageNet weights of it were released, so put there a classifier trained with configs/acmix'
backbone = dict(type='mmatconv.ACmixResNet', arch='50')
channels = [256, 512, 1024, 2048]
drop_path = dict(detection=0.0, segmentation=0.0)
# Two to four images a GPU are too few for batch statistics; mmdet keeps ResNet's the same way.
# Without pretrained weights norm_eval=False is needed: the statistics of an untrained network make gradients NaN.
dense = dict(out_indices=(0, 1, 2, 3), norm_eval=True)
weights = dict(type='Pretrained', checkpoint='checkpoints/acmix-resnet-50_in1k.pth', prefix='backbone.')
