#!/usr/bin/env bash
# Trains on N processes of this machine: tools/dist_train.sh CONFIG N [options of tools/train.py]
# Several machines: call it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set. PYTHON names the interpreter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 2 ]; then
  echo "error: usage: $0 CONFIG N [options of tools/train.py], with N the number of processes on this machine" >&2
  exit 2
fi
python=${PYTHON:-$root/.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m mmatconv.engine.launch.torchrun "$2" "$root/tools/train.py" "$1" --launcher pytorch "${@:3}"
