"""The recipe without RandAugment and random erasing: the released runs/XXS.txt and XS.txt."""

_base_ = ['./recipe.py']

train_pipeline = [step for step in _base_.train_pipeline if step['type'] not in ('RandAugment', 'RandomErasing')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
