"""VCM-HITSZ in images: six frames of a track, whose features are averaged to evaluate, as MITML does with its own."""

_base_ = './recipe.py'

data_hint = 'VCM-HITSZ is linked from github.com/VCM-project233/HITSZ-VCM-data; unpack it there'

model = dict(head=dict(num_classes=500))
dataset = dict(type='mmatconv.VCM', data_root='data/VCM-HITSZ')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(average_tracks=True)
test_evaluator = val_evaluator
