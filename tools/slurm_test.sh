#!/usr/bin/env bash
# Runs tools/test.py under Slurm: [GPUS=8] tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# The variables it reads are listed in tools/slurm.sh.
exec "$(dirname "${BASH_SOURCE[0]}")/slurm.sh" test 'CONFIG CHECKPOINT' "$@"
