"""What is computed from readings of time and memory is right; no test depends on a clock."""

from dataclasses import replace

import pytest
import torch

from mmatconv.analysis.benchmark import linear_cost, measure
from mmatconv.analysis.benchmark.case import Case, Setting
from mmatconv.analysis.benchmark.memory import held_bytes, peak_growth
from mmatconv.analysis.benchmark.plot import plot
from mmatconv.analysis.benchmark.render import as_dict
from mmatconv.analysis.benchmark.timing import SHORTEST_READING, Times, interleave

SMALL = Setting(size=(9, 7), batch=2, channels=32)


class Clock:
    """Readings that are known: so many seconds for one call of each."""

    def __init__(self, seconds):
        self.seconds, self.read = seconds, []

    def __call__(self, call, times):
        call()
        self.read.append((call.name, times))
        return self.seconds[call.name] * times


def named(name, made):
    def call():
        made.append(name)

    call.name = name
    return call


class TestTiming:
    def test_turns_begin_with_another_candidate_each_round(self):
        made = []
        calls = {name: named(name, made) for name in 'abc'}
        ticks = []
        clock = Clock(dict(a=1.0, b=2.0, c=3.0))
        times = interleave(calls, 3, 1, clock, lambda: ticks.append(1))
        assert ''.join(made) == 'aabbcc' + 'abc' + 'bca' + 'cab'
        assert len(ticks) == 9
        assert {name: entry.median for name, entry in times.items()} == dict(a=1.0, b=2.0, c=3.0)

    def test_short_calls_are_repeated_within_a_reading(self):
        clock = Clock(dict(a=SHORTEST_READING / 40, b=1.0, c=1e-12))
        times = interleave({name: named(name, []) for name in 'abc'}, 2, 0, clock)
        assert [reading for reading in clock.read if reading[0] == 'a'] == [('a', 1), ('a', 40), ('a', 40)]
        assert clock.read[-1] == ('a', 40) and ('c', 1000) in clock.read and ('b', 1) in clock.read
        assert times['a'].median == pytest.approx(SHORTEST_READING / 40)

    def test_spread(self):
        times = Times([float(value) for value in range(11)])
        assert (times.p10, times.median, times.p90) == (1, 5, 9)


class TestMemory:
    def test_peak_is_the_most_at_one_moment(self):
        x = torch.zeros(1 << 16)
        size = x.nbytes

        def call():
            a = x.clone()
            b = x.clone()
            del a
            c = x.clone()
            del b, c
            return x.clone()

        assert peak_growth(call, 'cpu') == 2 * size
        assert peak_growth(lambda: None, 'cpu') == 0

    def test_shared_memory_is_held_once(self):
        x = torch.zeros(100)
        assert held_bytes([x, x[10:], None, torch.zeros(3, dtype=torch.float16)]) == 406


def outcome(seconds, peaks, reference='b', floors=(None,) * 9, size=(8, 8)):
    names = list(seconds)
    case = Case('operator', 'm', replace(SMALL, size=size), reference, [])
    entries = [
        measure.Measured(name, Times([seconds[name]]), 0, peaks[name], None, floor)
        for name, floor in zip(names, floors)
    ]
    return measure.Outcome(case, entries)


class TestRatios:
    def test_speed_and_memory_are_to_the_reference(self):
        found = outcome(dict(a=2.0, b=3.0), dict(a=60, b=80))
        assert [found.speed(entry) for entry in found.measured] == [1.5, 1]
        assert [found.memory(entry) for entry in found.measured] == [0.75, 1]

    def test_bandwidth_is_the_floor_over_the_median(self):
        found = outcome({'a': 2.0, 'b': 4.0, 'copy': 1.0}, {'a': 1, 'b': 1, 'copy': 1}, 'b', (500, 500, 200))
        assert [entry.bandwidth for entry in found.measured] == [250, 125, 200]
        assert [found.share(entry) for entry in found.measured] == [1.25, 0.625, 1]

    def test_without_a_reference_there_is_no_ratio(self):
        found = outcome(dict(a=2.0), dict(a=1), 'b')
        assert found.speed(found.measured[0]) is None
        assert as_dict(found)['results'][0]['speed'] is None

    def test_cost_per_pixel(self):
        small = outcome(dict(a=64e-6, b=64e-6), dict(a=1, b=1), size=(8, 8))
        large = outcome(dict(a=256e-6 * 1.09, b=256e-6 * 1.2), dict(a=1, b=1), size=(16, 16))
        other = outcome(dict(a=1, b=1), dict(a=1, b=1), size=(16, 8))
        found = list(linear_cost.growths([small, large, other]))
        assert [(growth.name, growth.linear) for growth in found] == [('a', True), ('b', False)]
        assert found[0].small == pytest.approx(1e-6) and found[0].ratio == pytest.approx(1.09)
        assert linear_cost.quadrupled([(8, 6), (16, 12)]) == [(8, 6), (16, 12), (32, 24)]


def test_plot_is_a_picture(tmp_path):
    outcomes = [outcome(dict(a=side, b=2 * side), dict(a=side, b=side), size=(side, side)) for side in (8, 16, 32)]
    plot(outcomes, tmp_path / 'figure.png', 'made by a test')
    from matplotlib.image import imread

    image = imread(tmp_path / 'figure.png')
    assert min(image.shape[:2]) > 400 and image.std() > 0.01
