"""What all detection recipes share, as variables for them."""

# No decay on norms, biases, LayerScale and difference_control: all one-dimensional.
no_decay = dict(norm_decay_mult=0.0, flat_decay_mult=0.0)
# Interrupting loses at most an epoch; the last three checkpoints and the best stay.
keep_checkpoints = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/segm_mAP'))
