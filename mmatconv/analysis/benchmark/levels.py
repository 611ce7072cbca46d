"""The levels of the benchmark (operator, block, backbone, detector), and the cases that its options ask for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mmatconv.analysis.benchmark import backbones, blocks, detectors, operators
from mmatconv.analysis.benchmark.case import Case, Setting
from mmatconv.errors import UserError


@dataclass(frozen=True)
class Level:
    """A level of the benchmark.

    Attributes:
        case: Makes a case of a model's name and a setting.
        modes: What can be measured.
        sizes: Measured by default.
        batches: Samples by default, on 'cpu' and on 'cuda'.
        formats: Memory formats of the input by default.
        models: Names of the models; None where one case holds all candidates.
        default_models: Measured by default.
    """

    case: Callable[[str, Setting], Case]
    modes: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    batches: Mapping[str, int]
    formats: Sequence[str]
    models: Callable[[], Sequence[str]] | None = None
    default_models: Sequence[str] = ()


LEVELS = {
    'operator': Level(
        lambda _, setting: operators.operator_case(setting),
        ('forward', 'backward'),
        ((56, 56), (128, 128)),
        dict(cpu=4, cuda=64),
        ('contiguous', 'channels_last'),
    ),
    'block': Level(
        lambda _, setting: blocks.block_case(setting),
        ('forward', 'backward', 'step'),
        # Those of the paper's figure 4.
        ((8, 8), (16, 16), (32, 32), (64, 64), (128, 128)),
        dict(cpu=1, cuda=64),
        # What LayerNorm over channels leaves, in the released code as in ours.
        ('channels_last',),
    ),
    'backbone': Level(
        backbones.backbone_case,
        ('forward', 'backward', 'step'),
        ((224, 224),),
        dict(cpu=1, cuda=64),
        ('contiguous',),
        lambda: list(backbones.MODELS_BY_NAME),
        backbones.DEFAULT_MODELS,
    ),
    'detector': Level(
        detectors.detector_case,
        ('forward', 'backward', 'step'),
        ((512, 512),),
        dict(cpu=1, cuda=2),
        ('contiguous',),
        lambda: list(detectors.available()),
        detectors.DEFAULT_MODELS,
    ),
}


def settings(
    level: Level,
    base: Setting,
    modes: Sequence[str],
    sizes: Sequence[tuple[int, int]] | None,
    batch: int | None,
    formats: Sequence[str] | None,
) -> list[Setting]:
    """The settings of a level, the size changing fastest.

    Raises:
        UserError: A mode the level does not have, or folding beyond forward.
    """
    for mode in modes:
        if mode not in level.modes:
            raise UserError(f'--mode {mode} does not exist at this level; choose from {", ".join(level.modes)}')
        if base.fold and mode != 'forward':
            raise UserError(f'--fold is for inference, but --mode is {mode}; use --mode forward')
    base = replace(base, batch=batch or level.batches[base.device])
    return [
        replace(base, mode=mode, memory_format=memory_format, size=size)
        for mode in modes
        for memory_format in formats or level.formats
        for size in sizes or level.sizes
    ]


def check_models(level: Level, names: Sequence[str] | None) -> Sequence[str]:
    """The models to measure, the default ones without ``names``; [''] where a case holds all.

    Raises:
        UserError: A model that does not exist; the message lists what does.
    """
    if level.models is None:
        return ['']
    known = level.models()
    for name in names or ():
        if name not in known:
            raise UserError(f"--models: there is no model '{name}' at this level; choose from {', '.join(known)}")
    return names or level.default_models


def make_cases(
    level: Level, all_settings: Sequence[Setting], names: Sequence[str] | None, reference: str | None
) -> Iterator[Case]:
    """The cases one after another, each made when it is its turn.

    Raises:
        UserError: A candidate or reference that does not exist; the message lists what does.
    """
    for name in check_models(level, names):
        for setting in all_settings:
            case = level.case(name, setting)
            yield choose(case, names if level.models is None else None, reference)


def choose(case: Case, names: Sequence[str] | None, reference: str | None) -> Case:
    """The case with some of its candidates timed, and another reference.

    Candidates that are only needed to check others stay, untimed. Without a reference that is timed the first of
    those timed is the reference.

    Raises:
        UserError: A name that does not exist.
    """
    known = [candidate.name for candidate in case.candidates]
    for option, asked in (('--models', names or ()), ('--reference', [reference] if reference else ())):
        for name in asked:
            if name not in known:
                left_out = f' ({"; ".join(case.left_out)})' if case.left_out else ''
                raise UserError(f"{option}: there is no candidate '{name}'; choose from {', '.join(known)}{left_out}")
    timed = [c.name for c in case.candidates if not names or c.name in (*names, reference)]
    needed = {c.equal_to for c in case.candidates if c.name in timed}
    candidates = [replace(c, timed=c.name in timed) for c in case.candidates if c.name in timed or c.name in needed]
    first = case.reference if case.reference in timed else timed[0]
    return replace(case, candidates=candidates, reference=reference or first)
