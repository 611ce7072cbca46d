"""What a config can be called."""

from pathlib import Path

import pytest

from mmatconv.engine.cli.config_file import find_config
from mmatconv.engine.cli.published import weights_of
from mmatconv.errors import UserError

from ...reading import read_config

CAMVID = 'configs/own_data/fpn_attnet-xxs_camvid.py'


def test_a_bare_name_is_one_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = Path(__file__).parents[3] / CAMVID
    for name in (CAMVID, 'mmatconv::own_data/fpn_attnet-xxs_camvid.py', 'fpn_attnet-xxs_camvid'):
        assert find_config(name).samefile(ours)
    # A user's own file of that name comes first.
    Path('fpn_attnet-xxs_camvid').touch()
    assert find_config('fpn_attnet-xxs_camvid') == Path('fpn_attnet-xxs_camvid')


def test_a_name_that_is_nearly_one_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no config of the name 'fpn_attnet-xxs_canvid'; did you mean 'fpn_"):
        find_config('fpn_attnet-xxs_canvid')
    with pytest.raises(UserError, match=r"config file 'nothing_like_it' does not exist \(looked in"):
        find_config('nothing_like_it')
    with pytest.raises(UserError, match=r"config file 'default_runtime' does not exist"):
        find_config('default_runtime')


def test_a_config_without_weights_says_so():
    with pytest.raises(
        UserError, match=r"no weights are published for config '.*camvid.py'; name a checkpoint after it"
    ):
        weights_of(read_config(CAMVID))
