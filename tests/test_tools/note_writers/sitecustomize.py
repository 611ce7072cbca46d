"""Notes which process writes which file: put on PYTHONPATH, Python imports this module by itself at its start.

Each process appends to the file named by WRITERS a line of its rank and the path of every file it opens for writing or
gives its name to.
"""

import os
import sys

WRITING = os.O_WRONLY | os.O_RDWR


def note(event: str, arguments: tuple) -> None:
    if event == 'open' and isinstance(arguments[0], str) and arguments[2] & WRITING:
        path = arguments[0]
    elif event == 'os.rename':
        path = arguments[1]
    else:
        return
    line = f'{os.environ["RANK"]} {os.path.abspath(path)}\n'.encode()
    os.write(notes, line)


if 'WRITERS' in os.environ and 'RANK' in os.environ:
    notes = os.open(os.environ['WRITERS'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(note)
