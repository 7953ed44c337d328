#!/usr/bin/env bash
# Submits a run: submit.sh run.yaml 64 gives it 64 workers, which end when it has ended.
set -euo pipefail
config=${1:?give the config of the run}
workers=${2:?give the number of workers}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

array=$(sbatch --parsable --array="1-$workers" "$here/workers.sbatch")
sbatch --export="ALL,QIANMO_WORKERS_JOB=${array%%;*}" "$here/coordinator.sbatch" "$config"
