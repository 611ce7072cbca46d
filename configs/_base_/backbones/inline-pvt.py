"""What InLine-PVT of every size has: InLine attention with 32 channels a head in PVT's frame, position embeddings too.

Read from github.com/LeapLabTHU/InLine at e463a6f, models/inline_pvt.py. Its classifier has no norm behind the last
block, where ours has one.
"""

positions = [56, 28, 14, 7]
token_mixer = dict(type='InLineAttention', num_heads=[2, 4, 10, 16], qkv_bias=True, lepe=False)
pretrained_hint = (
    'the ImageNet weights that the authors of InLine released have other names, so put there a classifier trained with '
    'configs/inline'
)
dense = dict(out_indices=(0, 1, 2, 3))
