"""The weights that the project publishes with a config."""

from pathlib import Path

import yaml
from mmengine.config import Config

from mmatconv.checkpoint.published import FOLDER
from mmatconv.errors import UserError

METAFILE = 'metafile.yml'


def weights_of(config: Config) -> str:
    """The address that the metafile beside a config names as its weights.

    Raises:
        UserError: There are none; the sentence names the models that have some.
    """
    path = Path(config.filename)
    metafile = path.with_name(METAFILE)
    models = yaml.safe_load(metafile.read_text(encoding='utf-8'))['Models'] if metafile.is_file() else []
    for model in models:
        if Path(model['Config']).name == path.name and 'Weights' in model:
            return model['Weights']
    known = sorted(file.stem.rpartition('-')[0] for file in FOLDER.glob('*.safetensors'))
    raise UserError(
        f"no weights are published for config '{path}'; name a checkpoint after it"
        + (f', or one of {", ".join(known)} in its place' if known else '')
    )
