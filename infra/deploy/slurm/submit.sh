#!/usr/bin/env bash
# Submits a run: submit.sh run.yaml 64 gives it 64 workers, which end when it has ended. It is prepared, trained,
# evaluated and exported. Further arguments are other commands: submit.sh run.yaml 64 'train run.yaml --resume'
set -euo pipefail
config=${1:?give the config of the run}
workers=${2:?give the number of workers}
shift 2
(($# > 0)) || set -- "prepare $config" "train $config --resume" "evaluate $config" "export $config"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

array=$(sbatch --parsable --array="1-$workers" "$here/workers.sbatch")
sbatch --export="ALL,QIANMO_WORKERS_JOB=${array%%;*}" "$here/coordinator.sbatch" "$@"
