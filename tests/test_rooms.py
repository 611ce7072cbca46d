"""The plan of the house: who may import whom. Read from the sources, imports inside of functions included."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmatconv'
# From the ground up: a room imports from its own and from those before it.
ROOMS = ['ops', 'layers', 'checkpoint', 'openmmlab', 'utils', 'backbones', 'generation', 'retrieval', 'deploy']
ROOMS += ['engine', 'analysis', 'tools']
GROUND = {'errors', 'version'}
# Beside the others: it imports from the ground alone, and only what stands above the backbones imports from it.
BESIDE = {'datasets': {'deploy', 'engine', 'analysis', 'tools'}}
MOST_LINES = 400


@cache
def files():
    """Module name -> file, of the package and of the tools."""
    found = {}
    for path in sorted([*PACKAGE.rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]):
        if '.mim' in path.parts:
            continue
        parts = path.relative_to(ROOT).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


@cache
def imports_of(module):
    """Names of modules that a module imports, wherever in it, those named in ``import_module('...')`` included."""
    found = set()
    for node in ast.walk(ast.parse(files()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{module} imports relatively'
            names = {f'{node.module}.{alias.name}' for alias in node.names}
            found |= {name if name in files() else node.module for name in names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if getattr(node.func, 'attr', getattr(node.func, 'id', '')) in ('import_module', '__import__'):
                found.add(node.args[0].value)
    return found


def room_of(module):
    parts = module.split('.')
    if parts[0] == 'tools':
        return 'tools'
    return parts[1] if len(parts) > 1 else ''


def own_imports(module):
    return {name for name in imports_of(module) if name.split('.')[0] in ('mmatconv', 'tools')}


def may_import(room, other):
    if other in GROUND or room == other:
        return True
    if room in GROUND or room in BESIDE:
        return False
    if other in BESIDE:
        return room in BESIDE[other]
    return ROOMS.index(other) < ROOMS.index(room)


def test_generation_stands_apart_from_detection():
    others = {name for module in files() if room_of(module) == 'generation' for name in imports_of(module)}
    allowed = ('torch', 'mmengine', 'numpy', 'math', 'collections', 'typing')
    ours = ('mmatconv.generation', 'mmatconv.layers', 'mmatconv.ops', 'mmatconv.errors')
    assert [name for name in others if name.partition('.')[0] not in allowed and not name.startswith(ours)] == []
    users = {room_of(module) for module in files() for name in imports_of(module) if room_of(name) == 'generation'}
    assert users <= {'generation', 'analysis', 'tools'}


def test_every_module_is_in_a_known_room():
    rooms = {room_of(module) for module in files()} - {''}
    assert rooms == {*ROOMS, *GROUND, *BESIDE}


@pytest.mark.parametrize('room', [*ROOMS, *sorted(BESIDE), *sorted(GROUND)])
def test_no_arrow_goes_up(room):
    # mmatconv/__init__.py stands above all rooms; a tool may ask it for what users ask it for.
    wrong = [
        f'{module} imports {name}'
        for module in files()
        if room_of(module) == room
        for name in own_imports(module)
        if not (may_import(room, room_of(name)) if room_of(name) else room == 'tools')
    ]
    assert wrong == []


@pytest.mark.parametrize('room', ['ops', 'layers'])
def test_ops_and_layers_know_no_openmmlab(room):
    wrong = {
        f'{module} imports {name}'
        for module in files()
        if room_of(module) == room
        for name in imports_of(module)
        if name.startswith('mm') and name.split('.')[0] not in ('mmatconv', 'mmap')
    }
    assert wrong == set()


def test_no_two_files_import_each_other():
    """Nor any number of them in a circle."""
    done, path = set(), []

    def visit(module):
        assert module not in path, ' -> '.join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in sorted(own_imports(module)):
            if name in files() and name != 'mmatconv':
                visit(name)
        path.pop()
        done.add(module)

    for module in files():
        visit(module)


def test_nothing_that_ships_imports_the_test_library():
    assert [module for module in files() if any(name.split('.')[0] == 'unittest' for name in imports_of(module))] == []


def test_no_file_is_long():
    lengths = {module: len(path.read_text().splitlines()) for module, path in files().items()}
    assert {module: count for module, count in lengths.items() if count > MOST_LINES} == {}
