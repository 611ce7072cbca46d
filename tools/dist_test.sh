#!/usr/bin/env bash
# Evaluates a checkpoint on N processes: tools/dist_test.sh CONFIG CHECKPOINT N [options of tools/test.py]
# Several machines: call it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set. PYTHON names the interpreter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 3 ]; then
  echo "error: usage: $0 CONFIG CHECKPOINT N [options of tools/test.py], with N the number of processes here" >&2
  exit 2
fi
python=${PYTHON:-$root/.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m mmatconv.engine.launch.torchrun "$3" "$root/tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
