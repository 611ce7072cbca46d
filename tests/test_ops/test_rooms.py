"""The order inside ops: each operator by itself, the CPU's fast paths behind one file, and ceilings that export."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path('mmatconv')
OPERATORS = ('dynamic_conv', 'context_to_kernel', 'glu')


def imports(file):
    """Modules of this package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmatconv'):
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith('mmatconv'))


@pytest.mark.parametrize('operator', OPERATORS)
def test_operators_do_not_import_each_other(operator):
    others = tuple(f'mmatconv.ops.{other}' for other in (*OPERATORS, 'cpu', 'products') if other != operator)
    for file in (PACKAGE / 'ops' / operator).glob('*.py'):
        assert not [name for name in imports(file) if name.startswith(others)], file


def test_shared_helpers_import_no_operator():
    for file in (PACKAGE / 'ops').glob('*.py'):
        if file.stem not in ('__init__', 'products'):
            assert not [name for name in imports(file) if name.count('.') > 3 or name.startswith('mmatconv.ops.cpu')]


def test_one_file_reaches_the_fast_paths_of_a_cpu():
    folder = PACKAGE / 'ops' / 'cpu'
    users = {
        str(file)
        for file in PACKAGE.rglob('*.py')
        if folder not in file.parents and any(name.startswith('mmatconv.ops.cpu') for name in imports(file))
    }
    assert users == {'mmatconv/ops/products.py'}


def test_ceilings_are_not_written_with_negative_numbers():
    """torch's TorchScript exporter to ONNX rounds // toward zero: ``-(-a // b)`` is silently wrong there."""
    for room in ('ops', 'layers', 'backbones'):
        for file in (PACKAGE / room).rglob('*.py'):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
                    assert not isinstance(node.left, ast.UnaryOp), f'{file}:{node.lineno}'
