"""The parameters and FLOPs of the paper's tables beside the counted ones.

Example:
    python tools/analysis_tools/paper_tables.py --tables I,IX
    python tools/analysis_tools/paper_tables.py --format markdown > docs/paper_tables.md
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError


def main(progress: report.Progress) -> None:
    parser = Parser('paper_tables.py', description=__doc__.splitlines()[0])
    parser.add_argument('--format', choices=('text', 'markdown', 'json'), default='text', help='default: text')
    parser.add_argument('--tables', metavar='I,II,...', help='numbers of tables; all if not given')
    args = parser.parse_args()

    from mmatconv.analysis.build_model import quiet

    with quiet():
        from mmatconv.analysis.paper.render import FORMATS
        from mmatconv.analysis.paper.tables import TABLES

        tables = TABLES if args.tables is None else choose(TABLES, args.tables.split(','))
        checked = check_all(tables)
    print(FORMATS[args.format](checked))


def choose(tables: tuple, names: list[str]) -> list:
    """Tables by number; 'IX' stands for its three parts."""
    known = [table.name for table in tables]
    chosen = []
    for name in (name.strip() for name in names):
        found = [table for table in tables if name.upper() in (table.name.upper(), table.name.partition('(')[0])]
        if not found:
            raise UserError(
                f"--tables: there is no table '{name}'; choose from {', '.join(known)}, or IX for its parts"
            )
        chosen += [table for table in found if table not in chosen]
    return chosen


def check_all(tables: list) -> list:
    """Each table with its checked figures; a progress bar on the terminal."""
    from mmatconv.analysis.paper.figures import check
    from mmatconv.engine.console.bar import with_bar

    rows = [(table, row) for table in tables for row in table.rows]
    figures = {table.name: [] for table in tables}
    for table, row in with_bar(rows, 'counting'):
        figures[table.name] += check(table, row)
    return [(table, figures[table.name]) for table in tables]


if __name__ == '__main__':
    sys.exit(report.run(main))
