"""Which candidates, settings and detectors the benchmark has."""

from dataclasses import replace

import pytest
import torch

from mmatconv import UserError
from mmatconv.analysis.benchmark import backbones, blocks, detectors, levels, measure, operators
from mmatconv.analysis.benchmark.case import Candidate, Setting

SMALL = Setting(size=(9, 7), batch=2, channels=32)


class TestCases:
    def test_every_token_mixer_keeps_the_shape(self):
        case = blocks.block_case(replace(SMALL, size=(20, 13), channels=64))
        assert [candidate.name for candidate in case.candidates] == [
            *('ours', 'released', 'window', 'spatial-reduction', 'inline', 'hydra', 'grid', 'pooling'),
            *('acmix-window', 'acmix-sliding', 'lkca', 'depthwise', 'cross-shaped'),
        ]
        assert all(c.function(*c.inputs).shape == (2, 64, 20, 13) for c in case.candidates)
        assert not case.left_out

    def test_one_head_has_no_cross_shaped_attention(self):
        case = blocks.block_case(SMALL)
        assert case.left_out == ['cross-shaped attention: needs an even number of heads, and 32 channels make 1']

    @pytest.mark.parametrize(('name', 'reference'), [('atconv-pvt-tiny', 'pvt'), ('atconv-swin-tiny', 'swin')])
    def test_originals_of_the_same_size(self, name, reference):
        case = backbones.backbone_case(name, replace(SMALL, size=(64, 64)))
        assert [c.name for c in case.candidates] == ['ours', 'released', 'static', reference]
        assert case.reference == reference
        shapes = [[tuple(x.shape) for x in c.function(*c.inputs)] for c in case.candidates]
        assert shapes[0] == shapes[1] == shapes[2] == shapes[3]

    def test_chosen_candidates_keep_what_checks_them(self):
        case = operators.operator_case(SMALL)
        chosen = levels.choose(case, ['ours', 'copy'], None)
        assert [(c.name, c.timed) for c in chosen.candidates] == [('ours', True), ('grouped', False), ('copy', True)]
        assert chosen.reference == 'ours'
        chosen = levels.choose(case, ['ours'], 'static')
        assert [c.name for c in chosen.candidates if c.timed] == ['ours', 'static']
        assert chosen.reference == 'static'
        assert [e.name for e in measure.measure(chosen, 1, 0, lambda call, times: times).measured] == ['ours', 'static']

    @pytest.mark.parametrize(('names', 'reference'), [(['fast'], None), (None, 'fast')])
    def test_unknown_candidates_list_what_exists(self, names, reference):
        with pytest.raises(UserError, match="no candidate 'fast'; choose from ours, grouped, unfold, static, copy"):
            levels.choose(operators.operator_case(SMALL), names, reference)

    def test_out_of_memory_leaves_the_others(self):
        def greedy(x, kernel):
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')

        case = operators.operator_case(SMALL)
        case.candidates = [*case.candidates, Candidate('greedy', greedy, case.candidates[0].inputs)]
        found = measure.measure(case, 1, 0, lambda call, times: times)
        assert found.failed == ['greedy'] and len(found.measured) == 5

    def test_settings_of_a_level(self):
        level = levels.LEVELS['operator']
        found = levels.settings(level, Setting(), ['forward', 'backward'], [(8, 8)], None, None)
        assert [(s.mode, s.memory_format, s.size, s.batch) for s in found] == [
            (mode, memory_format, (8, 8), 4)
            for mode in ('forward', 'backward')
            for memory_format in ('contiguous', 'channels_last')
        ]

    def test_head_channels(self):
        with pytest.raises(UserError, match='--channels 48 must be a multiple of 32'):
            blocks.block_case(replace(SMALL, channels=48))


class TestDetectors:
    def test_names(self):
        names = list(detectors.available())
        assert {'mask-rcnn_attnet-t2', 'mask-rcnn_atconv-swin-b', 'fpn_atconv-pvt-l'} <= set(names)
        assert len(names) == 14 + 11 and not any('_pvt-' in name for name in names)

    def test_boxes_are_in_their_images(self):
        boxes = detectors.random_boxes(5, replace(SMALL, size=(40, 90)))
        assert boxes.shape == (10, 5) and boxes[:, 0].tolist() == [0] * 5 + [1] * 5
        assert (boxes[:, 1:3] <= boxes[:, 3:]).all() and boxes.min() >= 0
        assert boxes[:, 4].max() <= 40 < boxes[:, 3].max() <= 90

    def test_mask_rcnn_works_on_its_boxes(self):
        setting = replace(SMALL, size=(64, 64), rois=(3, 2))
        from mmatconv.engine.cli.config_file import load_config

        network = detectors.wrap(load_config(detectors.available()['mask-rcnn_attnet-xxs']), setting).eval()
        with torch.inference_mode():
            rpn, boxes, masks = network(setting.random(3))
        assert [tuple(scores.shape) for scores in rpn[0]] == [(2, 3, side, side) for side in (16, 8, 4, 2, 1)]
        assert [tuple(tensor.shape) for tensor in boxes] == [(6, 81), (6, 320)]
        assert masks.shape == (4, 80, 28, 28)

    def test_segmentor_with_pvt_and_released(self):
        case = detectors.detector_case('fpn_atconv-pvt-t', replace(SMALL, size=(64, 64), batch=1))
        found = measure.measure(case, 1, 0, lambda call, times: times)
        assert [entry.name for entry in found.measured] == ['ours', 'released', 'static', 'pvt']
        assert found.measured[0].error < 1e-4 and case.reference == 'pvt'
        assert case.candidates[0].function(*case.candidates[0].inputs)[0].shape == (1, 150, 16, 16)
