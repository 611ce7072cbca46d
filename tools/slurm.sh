#!/usr/bin/env bash
# What slurm_train.sh and slurm_test.sh share: tools/slurm.sh train|test 'WHAT IT NEEDS' PARTITION JOB_NAME ...
# GPUS: processes in all (8); GPUS_PER_NODE (8, at most GPUS); CPUS_PER_TASK (5); SRUN_ARGS: more options for srun;
# GRES: what each machine must have (gpu:GPUS_PER_NODE), 'none' to run on CPUs; PYTHON: the interpreter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tool=$1 needed=$2
shift 2
read -ra names <<<"PARTITION JOB_NAME $needed"
if [ $# -lt ${#names[@]} ]; then
  echo "error: usage: tools/slurm_$tool.sh ${names[*]} [options of tools/$tool.py]" >&2
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
exec srun "${wanted[@]}" ${SRUN_ARGS:-} "$python" -u "$root/tools/$tool.py" "${@:3}" --launcher slurm
