"""Reads a config with --cfg-options, and says in one sentence what is wrong with it."""

import argparse
import ast
import difflib
import inspect
import os
import traceback
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmatconv.errors import UserError

PROJECT = Path(__file__).resolve().parents[3]
# Names of a config that --tta reads, and no parameters of the runner.
TEST_TIME_AUGMENTATION = ('tta_model', 'tta_pipeline')
# Of the checkout or the installed package.
CONFIGS = Path(__file__).resolve().parents[2] / '.mim' / 'configs'


class OptionsAction(DictAction):
    """MMEngine's KEY=VALUE parsing, with an argparse error where MMEngine has a traceback."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        for value in values:
            if '=' not in value:
                raise argparse.ArgumentError(self, f"expected KEY=VALUE, got '{value}'")
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        except RecursionError as error:
            # MMEngine's parser never ends on '(1,) b=2' and the like.
            raise argparse.ArgumentError(self, f'cannot read {values}; quote each KEY=VALUE on its own') from error


def load_config(name: str, options: dict[str, Any] | None = None) -> Config:
    """Reads the config `name`: a path from the current folder or from the project's, ``PACKAGE::PATH``, or a bare name.

    Raises:
        UserError: there is no such file, it cannot be parsed or run, or `options` do not fit it.
    """
    path = find_config(name)
    try:
        config = Config.fromfile(str(path))
    except SyntaxError as error:
        raise _syntax_sentence(path, error) from error
    except Exception as error:
        if isinstance(error, FileNotFoundError) and error.filename is not None:
            base = os.path.normpath(error.filename)
            raise UserError(f"config '{path}' inherits from '{base}', which does not exist") from error
        where = _line_of(error, path)
        reason = ' '.join(str(error).split())
        raise UserError(f"config '{path}'{where} cannot be read: {type(error).__name__}: {reason}") from error
    if options:
        _check_names(config, options, path)
        try:
            config.merge_from_dict(options)
        except (KeyError, TypeError, IndexError, ValueError, AssertionError, AttributeError) as error:
            given = ' '.join(f'{key}={value}' for key, value in options.items())
            raise UserError(f"--cfg-options {given} does not fit config '{path}': {error}") from error
    return config


def _check_names(config: Config, options: dict[str, Any], path: Path) -> None:
    """MMEngine adds what is not there, so that a slip in a name would change nothing and be told to nobody.

    Raises:
        UserError: a name at the top that neither config nor runner knows is similar to one that they know.
    """
    known = {*config, *inspect.signature(Runner.__init__).parameters, *TEST_TIME_AUGMENTATION}
    for key in options:
        first, *rest = key.split('.')
        similar = difflib.get_close_matches(first, known, n=1, cutoff=0.8)
        if first not in known and similar:
            meant = '.'.join([*similar, *rest])
            raise UserError(f"--cfg-options {key}: config '{path}' has no '{first}'; did you mean '{meant}'?")


def find_config(name: str) -> Path:
    """The file a config's name stands for.

    Args:
        name: As for :func:`load_config`; a bare name is that of one of this package's configs.

    Raises:
        UserError: there is none; the sentence names the most similar file beside it.
    """
    if '::' in name:
        try:
            return Path(Config._get_cfg_path(name, '')[0])
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise UserError(f"config '{name}' is not found: {reason}; expected PACKAGE::PATH") from error
    path = Path(name).expanduser()
    candidates = [path] if path.is_absolute() else [path, PROJECT / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if name == path.name and path.suffix != '.py':
        ours = {file.stem: file for file in CONFIGS.rglob('*.py') if '_base_' not in file.parts}
        if name in ours:
            return ours[name]
        if similar := difflib.get_close_matches(name, ours, n=1):
            raise UserError(f"there is no config of the name '{name}'; did you mean '{similar[0]}'?")
    if path.is_dir():
        raise UserError(f"config '{name}' is a folder; name a config file in it")
    beside = [file for candidate in candidates for file in candidate.parent.glob('*.py')]
    similar = difflib.get_close_matches(path.name, [file.name for file in beside], n=1)
    hint = (
        f"; did you mean '{path.with_name(similar[0])}'?"
        if similar
        else f' (looked in {candidates[0].parent.absolute()})'
    )
    raise UserError(f"config file '{name}' does not exist{hint}")


def _syntax_sentence(path: Path, error: SyntaxError) -> UserError:
    """MMEngine parses a temporary copy, so the error does not say which of the inherited files it is in."""
    for file in _with_bases(path):
        try:
            ast.parse(file.read_text(encoding='utf-8'))
        except SyntaxError as found:
            return UserError(f"config '{file}', line {found.lineno}: {found.msg}")
    return UserError(f"config '{path}' cannot be parsed: line {error.lineno}: {error.msg}")


def _with_bases(path: Path) -> list[Path]:
    files = [path]
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
    except SyntaxError:
        return files
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            try:
                bases = ast.literal_eval(node.value)
            except ValueError:
                continue
            for base in [bases] if isinstance(bases, str) else bases:
                file = path.parent / base
                if file.is_file():
                    files += _with_bases(file)
    return files


def _line_of(error: Exception, path: Path) -> str:
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.absolute())
    ]
    return f', line {lines[-1]},' if lines else ''
