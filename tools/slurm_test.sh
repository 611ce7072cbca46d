#!/usr/bin/env bash
# Runs tools/test.py under Slurm: [GPUS=8] tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS: processes in all (8); GPUS_PER_NODE (8, at most GPUS); CPUS_PER_TASK (5); SRUN_ARGS: more options for srun;
# GRES: what each machine must have (gpu:GPUS_PER_NODE), 'none' to run on CPUs; PYTHON: the interpreter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 4 ]; then
  echo "error: usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
  exit 2
fi
python=${PYTHON:-$root/.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
gres=${GRES:-gpu:$per_node}
wanted=(--partition="$1" --job-name="$2" --ntasks="$gpus" --ntasks-per-node="$per_node")
wanted+=(--cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1)
[ "$gres" = none ] || wanted+=(--gres="$gres")
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
exec srun "${wanted[@]}" ${SRUN_ARGS:-} "$python" -u "$root/tools/test.py" "${@:3}" --launcher slurm
