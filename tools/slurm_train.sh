#!/usr/bin/env bash
# Runs tools/train.py under Slurm: [GPUS=8] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# The variables it reads are listed in tools/slurm.sh.
exec "$(dirname "${BASH_SOURCE[0]}")/slurm.sh" train 'CONFIG' "$@"
