"""README and docs/: links, files, commands and options exist, and the list of changes to other packages is complete."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding='utf-8') for page in PAGES}
# Tools whose options are defined in the package.
SHARED_OPTIONS = ('train.py', 'test.py', 'model_converters')


def anchors(page):
    """What links can point to in a page, as GitHub names headings."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def commands(text):
    """The commands of a page, from blocks and from inline code, as words."""
    blocks = re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
    inline = re.findall(r'`([^`]+)`', re.sub(r'```.*?```', '', text, flags=re.DOTALL))
    for line in [*lines, *(' '.join(code.split()) for code in inline)]:
        if re.match(r'([A-Z_]+=\S+ )*(make|(\S*python |bash )?tools/)', line):
            yield [word for word in shlex.split(line, comments=True) if not re.match(r'[A-Z_]+=', word)]


# What tools that call these functions of engine/cli/parser.py take.
ADDED = {'add_out(': '--out', 'add_trust(': '--trust-checkpoint'}


def options_of(tool):
    """The option names in the source of a tool."""
    script = tool.with_name(tool.stem.removeprefix('dist_').removeprefix('slurm_') + '.py')
    sources = [tool if tool.suffix == '.py' else script]
    if any(part in SHARED_OPTIONS for part in sources[0].parts):
        sources += (ROOT / 'mmatconv' / 'engine' / 'cli').glob('*.py')
    for module in re.findall(r'^from (mmatconv[\w.]*\.options) import', sources[0].read_text(encoding='utf-8'), re.M):
        sources.append(ROOT.joinpath(*module.split('.')).with_suffix('.py'))
    text = '\n'.join(path.read_text(encoding='utf-8') for path in sources)
    return {*re.findall(r"'(--[a-z-]+)'", text), *(option for call, option in ADDED.items() if call in text)}


def test_readme_is_a_front_page():
    assert len(TEXTS['README.md'].splitlines()) <= 150


def test_readmes_programs_in_plain_pytorch_run():
    blocks = re.findall(r'```python\n(.*?)```', TEXTS['README.md'].split('In plain PyTorch')[1], re.DOTALL)
    result = subprocess.run([sys.executable, '-c', '\n'.join(blocks)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (printed,) = re.findall(r'print\(.*\)  # (.*)', '\n'.join(blocks))
    assert len(blocks) == 3 and result.stdout.strip() == printed


def test_readmes_speeds_are_those_of_the_benchmark():
    """Speed and memory of each row stand together in a table of docs/benchmark.md, those of several sizes rounded."""
    rows = re.findall(r'^\| .+ \| ([\d./ to]+) \| ([\d. to]+) \|$', TEXTS['README.md'], re.MULTILINE)
    measured = re.findall(r'\| (\d\.\d\d) \| (\d\.\d\d) \|$', TEXTS['docs/benchmark.md'], re.MULTILINE)
    assert len(rows) == 5
    for speed, memory in rows:
        speeds, memories = (re.findall(r'[\d.]+', cell) for cell in (speed, memory))
        if len(speeds) == 1:
            assert (speed, memory) in measured
        assert {f'{float(value):.{len(speeds[0].partition(".")[2])}f}' for value, _ in measured} >= set(speeds)
        assert {value for _, value in measured} >= set(memories)


@pytest.mark.parametrize('page', TEXTS)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', TEXTS[page]):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize('page', TEXTS)
def test_named_files_exist(page):
    for name in re.findall(r'`((?:mmatconv|tests|tools|configs|docs)/[\w./-]+)`', TEXTS[page]):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize('page', TEXTS)
def test_commands_and_their_options_exist(page):
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for words in commands(TEXTS[page]):
        if words[0] == 'make':
            for target in words[1:]:
                assert re.search(rf'^{target}:', makefile, re.MULTILINE), words
            continue
        tool = ROOT / next(word for word in words if word.startswith('tools/'))
        if '*' in tool.name:
            assert list(tool.parent.glob(tool.name)), words
            continue
        assert tool.exists(), words
        for word in words:
            if word.startswith('--'):
                assert word.partition('=')[0] in options_of(tool), f'{word} in {words}'


def test_every_folder_of_the_package_is_in_the_plan():
    text = TEXTS['docs/architecture.md']
    folders = {path.name for path in (ROOT / 'mmatconv').iterdir() if (path / '__init__.py').exists()}
    assert folders == set(re.findall(r'^\| `(\w+)/` \|', text, re.MULTILINE))


def test_the_list_of_changes_to_other_packages_is_that_of_openmmlab():
    package = ROOT / 'mmatconv' / 'openmmlab'
    docstring = ast.get_docstring(ast.parse((package / '__init__.py').read_text(encoding='utf-8')))
    listed = set(re.findall(r'(\w+\.py), ``(\w+)``', docstring))
    assert listed == set(re.findall(r'^\| `(\w+\.py)` \| `(\w+)` \|', TEXTS['docs/architecture.md'], re.MULTILINE))
    for file, call in listed:
        assert f'def {call}(' in (package / file).read_text(encoding='utf-8')


def test_the_makefile_names_tests_that_exist():
    named = re.findall(r'tests/[\w./]+', (ROOT / 'Makefile').read_text(encoding='utf-8'))
    assert named and all((ROOT / path).exists() for path in named), named
