"""No images: for what goes wrong in training whatever is trained."""

default_scope = 'mmengine'
custom_imports = dict(imports=['faults'])
model = dict(type='Wide')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='Noise'), sampler=dict(type='DefaultSampler', shuffle=True)
)
train_cfg = dict(by_epoch=True, max_epochs=3)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1), logger=dict(type='LoggerHook', interval=1)
)
custom_hooks = [dict(type='FaultHook')]
