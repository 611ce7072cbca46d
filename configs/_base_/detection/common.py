"""What the detection recipes share, as variables for them."""

# No decay on biases and other one-dimensional parameters (norms, LayerScale, difference_control), as timm and the
# released classifier's training have it. Swin's own rule exempts norms and position tables, and decays the rest.
no_decay = dict(norm_decay_mult=0.0, flat_decay_mult=0.0)
# Interrupting loses at most an epoch; the last three checkpoints and the best stay.
keep_checkpoints = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/segm_mAP'))
