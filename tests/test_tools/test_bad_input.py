"""Bad input ends in one sentence and a non-zero status; nothing is lost."""

import logging
import shutil

import pytest
import torch
from mmengine.config import Config

from mmatconv.engine.cli import report
from mmatconv.engine.cli.test import test as evaluate
from mmatconv.engine.cli.train import train

# ---- what stops before anything is built: the tools' own functions, in this process -------------------------------


@pytest.fixture
def tool(monkeypatch, capfd, shapes, tmp_path):
    """Calls train or test with arguments; returns the sentence after checking that it is the only word."""
    monkeypatch.setattr(report, '_catch_signals', lambda: None)
    # MMEngine's logger keeps the output stream of the test that used it first, which is closed by now.
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    monkeypatch.setenv('SHAPES', str(shapes))
    monkeypatch.chdir(tmp_path)

    def call(main, *arguments):
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert status == 1
        assert captured.err.startswith('error: ')
        assert captured.err.count('\n') == 1
        assert 'Traceback' not in captured.out
        return captured.err.removeprefix('error: ').strip()

    return call


@pytest.fixture
def config(tmp_path, request):
    """Writes a config with extra lines that inherits from one of the test configs."""
    folder = request.path.parent / 'configs'

    def write(extra, base='det.py'):
        path = tmp_path / 'mine.py'
        path.write_text(f"_base_ = '{folder / base}'\n{extra}\n")
        return path

    return write


def test_config_is_missing(tool, tmp_path):
    assert (
        tool(train, 'nothing/here.py') == f"config file 'nothing/here.py' does not exist (looked in {tmp_path}/nothing)"
    )
    (tmp_path / 'mask_rcnn.py').write_text('')
    assert tool(train, 'mask_rnn.py') == "config file 'mask_rnn.py' does not exist; did you mean 'mask_rcnn.py'?"
    (tmp_path / 'folder').mkdir()
    assert tool(train, 'folder') == "config 'folder' is a folder; name a config file in it"


def test_config_of_the_project_is_found_from_any_folder(tool):
    sentence = tool(train, 'configs/mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py')
    assert sentence.startswith("data root 'data/coco/' of train_dataloader.dataset does not exist")


def test_config_cannot_be_read(tool, config, tmp_path):
    broken = config('model = dict(\n')
    assert tool(train, broken) == f"config '{broken}', line 2: '(' was never closed"
    inherits = tmp_path / 'inherits.py'
    inherits.write_text("_base_ = './mine.py'\n")
    assert tool(train, inherits) == f"config '{broken}', line 2: '(' was never closed"
    wrong = config('\nepochs = twelve')
    assert tool(train, wrong) == f"config '{wrong}', line 3, cannot be read: NameError: name 'twelve' is not defined"
    orphan = tmp_path / 'orphan.py'
    orphan.write_text("_base_ = './no.py'\n")
    assert tool(train, orphan) == f"config '{orphan}' inherits from '{tmp_path}/no.py', which does not exist"
    empty = tmp_path / 'empty.py'
    empty.write_text('model = dict()\n')
    assert tool(train, empty) == (
        f"config '{empty}' cannot be trained: it has no train_dataloader, no train_cfg, no optim_wrapper"
    )


def test_options_do_not_fit(tool, config):
    path = config('')
    assert tool(train, path, '--cfg-options', 'lr') == (
        "argument --cfg-options: expected KEY=VALUE, got 'lr'; see train.py --help"
    )
    assert tool(train, path, '--epochs', '3') == 'unrecognized arguments: --epochs 3; see train.py --help'
    assert tool(train, path, '--cfg-options', 'a=(1,) b=2') == (
        "argument --cfg-options: cannot read ['a=(1,) b=2']; quote each KEY=VALUE on its own; see train.py --help"
    )
    assert tool(train, path, '--cfg-options', 'train_cgf.max_epochs=1') == (
        f"--cfg-options train_cgf.max_epochs: config '{path}' has no 'train_cgf'; did you mean 'train_cfg.max_epochs'?"
    )
    # Not in the config, but the runner and --tta know them.
    names = ('val_evaluator.type=A', 'tta_pipeline=[]', 'mine=1', 'default_scope.x=1')
    assert tool(train, path, '--cfg-options', *names).startswith('--cfg-options val_evaluator.type=A tta_pipeline=[] ')
    sentence = tool(train, path, '--cfg-options', 'default_scope.x=1')
    assert sentence.startswith('--cfg-options default_scope.x=1 does not fit config')


def test_data_is_missing(tool, config, shapes, tmp_path):
    option = '--cfg-options'
    path = config("data_hint = 'make data writes it'")
    assert tool(train, path, option, 'train_dataloader.dataset.data_root=data/no') == (
        f"data root 'data/no' of train_dataloader.dataset does not exist (looked for {tmp_path}/data/no); put or link "
        'the data there, or name another folder with --cfg-options train_dataloader.dataset.data_root=FOLDER; '
        'make data writes it'
    )
    sentence = tool(train, path, option, 'val_dataloader.dataset.ann_file=annotations/no.json')
    assert sentence.startswith(
        f"annotation file '{shapes}/coco/annotations/no.json' of val_dataloader.dataset does not exist"
    )
    sentence = tool(train, path, option, 'val_evaluator.ann_file=no.json')
    assert sentence.startswith("annotation file 'no.json' of val_evaluator does not exist")
    sentence = tool(train, path, option, 'train_dataloader.dataset.data_prefix.img=no/')
    assert sentence.startswith(f"folder '{shapes}/coco/no/' of train_dataloader.dataset does not exist")
    (tmp_path / 'empty').mkdir()
    sentence = tool(train, path, option, f'train_dataloader.dataset.data_prefix.img={tmp_path}/empty')
    assert sentence.startswith(f"folder '{tmp_path}/empty' of train_dataloader.dataset is empty")
    whole = (shapes / 'coco' / 'annotations' / 'instances_train.json').read_bytes()
    (tmp_path / 'cut.json').write_bytes(whole[: len(whole) // 2])
    sentence = tool(train, path, option, f'train_dataloader.dataset.ann_file={tmp_path}/cut.json')
    assert sentence.startswith(f"annotation file '{tmp_path}/cut.json' of train_dataloader.dataset is cut off")


def test_data_is_missing_inside_wrappers_and_other_packages(tool, config):
    wrapped = config(
        "part = dict(type='CocoDataset', data_root='here/no')\n"
        "parts = dict(type='ConcatDataset', datasets=[part])\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=parts))"
    )
    assert "'here/no' of train_dataloader.dataset.dataset.datasets.0 does not" in tool(train, wrapped)
    segmentor = config("train_dataloader = dict(dataset=dict(data_prefix=dict(seg_map_path='no')))", 'seg.py')
    assert "/ade/no' of train_dataloader.dataset does not exist" in tool(train, segmentor)
    classifier = config("val_dataloader = dict(dataset=dict(type='ImageNet', split='val'))", 'cls.py')
    assert "/cls/val' of val_dataloader.dataset does not exist" in tool(train, classifier)


def test_pretrained_weights_are_missing(tool, config):
    path = config(
        "pretrained_hint = 'download them from example.org'\n"
        "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/no.pth')))"
    )
    assert tool(train, path) == (
        "pretrained weights 'checkpoints/no.pth' (model.backbone.init_cfg) do not exist; download them from "
        'example.org, or train without them: --cfg-options model.backbone.init_cfg=None'
    )
    # The way out that the sentence names leads on to the next check.
    way_out = ('--cfg-options', 'model.backbone.init_cfg=None', 'load_from=no.pth')
    assert tool(train, path, *way_out).startswith("checkpoint 'no.pth' does not exist")


def test_checkpoint_is_missing_or_cut_off(tool, config, tmp_path):
    path = config('')
    for main, arguments in ((train, ['--resume', 'no.pth']), (evaluate, ['no.pth'])):
        assert tool(main, path, *arguments).startswith(
            "checkpoint 'no.pth' does not exist; name the file tools/train.py"
        )
    assert tool(evaluate, path, tmp_path).startswith(f"checkpoint '{tmp_path}' is a folder")
    torch.save({'state_dict': {'weight': torch.zeros(1000)}}, tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    for size in (0, 1000, len(whole) - 10):
        (tmp_path / 'cut.pth').write_bytes(whole[:size])
        assert tool(evaluate, path, 'cut.pth') == (
            f"checkpoint 'cut.pth' is cut off ({size} bytes); copy or download it again"
        )
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'last_checkpoint').write_text('/gone/epoch_3.pth')
    sentence = tool(train, path, '--work-dir', 'work', '--resume')
    assert sentence.startswith("'work/last_checkpoint' names a checkpoint that does not exist ('/gone/epoch_3.pth')")


def test_folders_cannot_be_written(tool, config, tmp_path):
    path = config('')
    (tmp_path / 'file').write_text('mine')
    torch.save({}, tmp_path / 'some.pth')
    assert tool(train, path, '--work-dir', 'file/work') == (
        "work dir 'file/work' cannot be written (Not a directory); choose another with --work-dir"
    )
    assert tool(train, path, '--work-dir', 'file').startswith("work dir 'file' cannot be written (File exists)")
    assert tool(evaluate, path, 'some.pth', '--work-dir', 'file/work').startswith("work dir 'file/work' cannot be")
    assert tool(evaluate, path, 'some.pth', '--show-dir', 'file').startswith("--show-dir: folder 'file' cannot be")
    assert tool(evaluate, path, 'some.pth', '--out', 'a.json') == "--out 'a.json' must end in .pkl or .pickle"
    (tmp_path / 'kept.pkl').write_text('mine')
    assert tool(evaluate, path, 'some.pth', '--out', 'kept.pkl') == (
        "--out 'kept.pkl' exists already; delete it or choose another name"
    )
    assert (tmp_path / 'kept.pkl').read_text() == 'mine'


def test_options_the_config_has_nothing_for(tool, config, tmp_path):
    torch.save({}, tmp_path / 'some.pth')
    assert tool(train, config('auto_scale_lr = None'), '--auto-scale-lr').startswith('--auto-scale-lr: config')
    other = config("optim_wrapper = dict(type='ApexOptimWrapper')")
    assert tool(train, other, '--amp').endswith("of type OptimWrapper, but the config's is ApexOptimWrapper")
    assert tool(evaluate, config(''), 'some.pth', '--tta') == (
        '--tta: DetTTAModel merges boxes, not the instance masks this model predicts; leave --tta out'
    )
    none = config('tta_model = None', 'seg.py')
    assert (
        tool(evaluate, none, 'some.pth', '--tta')
        == f"--tta: config '{none}' has no tta_model; add one, and a tta_pipeline"
    )
    scope = config("default_scope = 'mmdetection9'")
    assert tool(train, scope).endswith("importing it found no module 'mmdetection9'; install mmdetection9")


# ---- what stops later, as a user meets it ------------------------------------------------------------------------


def test_launcher_says_it_once(run, tmp_path):
    outcome = run('dist_train.sh', 'no/such.py', 2, cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence == f"config file 'no/such.py' does not exist (looked in {tmp_path}/no)"
    assert len(outcome.errors.splitlines()) == 1


def test_unknown_arch(run, tmp_path):
    outcome = run('train.py', 'det.py', '--cfg-options', 'model.backbone.arch=XXL', cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence.startswith("AttNet has no arch 'XXL'")
    for name in ('XXS', 'XS', 'S', 'T1', 'T2', 'T3', 'T4'):
        assert f' {name},' in outcome.sentence


def test_one_process_alone_fails(run, shapes, tmp_path):
    """The second of two processes meets a listed image that is missing; the first must not bury its sentence."""
    data = tmp_path / 'shapes'
    shutil.copytree(shapes, data)
    gone = data / 'coco' / 'val' / '000000000002.jpg'
    gone.unlink()
    options = ('--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    outcome = run('dist_train.sh', 'det.py', 2, '--work-dir', 'work', *options, cwd=tmp_path, SHAPES=str(data))
    assert outcome.status == 1
    assert outcome.sentence.startswith(f"'{gone}' does not exist; repair or remove it")
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


def test_checkpoint_of_another_model(run, detector, tmp_path):
    wider = ('--cfg-options', 'model.rpn_head.feat_channels=24')
    sentences = [
        run('test.py', 'det.py', detector / 'epoch_2.pth', '--work-dir', 'work', *wider, cwd=tmp_path).sentence,
        run(
            'train.py', 'det.py', '--resume', detector / 'epoch_2.pth', '--work-dir', 'work', *wider, cwd=tmp_path
        ).sentence,
    ]
    expected = (
        f"checkpoint '{detector}/epoch_2.pth' is of another model: 0 tensors of this config are missing in it, 0 are "
        "left over and 4 have another shape ('rpn_head.rpn_conv.weight' is (16, 16, 3, 3) in the file and "
        '(24, 16, 3, 3) in the model); use the config it was trained with'
    )
    assert sentences == [expected, expected]
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_image_is_too_small(run, detector, tmp_path):
    config = Config.fromfile(str(detector / 'det.py'))
    config.test_dataloader.dataset.pipeline[1].scale = (16, 16)
    config.model.data_preprocessor.pad_size_divisor = 1
    config.dump(str(tmp_path / 'small.py'))
    checkpoint = detector / 'epoch_2.pth'
    outcome = run('test.py', str(tmp_path / 'small.py'), checkpoint, '--work-dir', 'work', cwd=tmp_path)
    assert outcome.status == 1
    assert '16' in outcome.sentence
    assert '32' in outcome.sentence


def test_images_without_three_channels(run, detector, tmp_path):
    config = Config.fromfile(str(detector / 'det.py'))
    config.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'
    config.dump(str(tmp_path / 'grey.py'))
    outcome = run('test.py', str(tmp_path / 'grey.py'), detector / 'epoch_2.pth', '--work-dir', 'work', cwd=tmp_path)
    assert outcome.status == 1
    assert 'channel' in outcome.sentence
    assert '(1, ' in outcome.sentence


def test_a_bug_keeps_its_traceback(run, tmp_path):
    outcome = run('train.py', 'seg.py', '--cfg-options', 'model.decode_head.feature_strides=[4,8]', cwd=tmp_path)
    assert outcome.status == 1
    assert 'Traceback (most recent call last)' in outcome.errors
    assert 'AssertionError' in outcome.errors
