"""LLCM, evaluated as its code does: 10 galleries of one image for each identity and camera."""

_base_ = './recipe.py'

data_hint = 'LLCM is given out by its authors for an agreement (github.com/ZYK100/LLCM); unpack it there'

model = dict(head=dict(num_classes=713))
dataset = dict(type='mmatconv.LLCM', data_root='data/LLCM')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(trials=10, count_identities=True)
test_evaluator = val_evaluator
