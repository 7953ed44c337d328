#!/usr/bin/env bash
# Submits a run whose commands follow one another: each job waits until the one before has succeeded.
#
#   submit.sh QUEUE /data/run.yaml
#   submit.sh QUEUE 'prepare /data/run.yaml' 'auto /data/run.yaml --resume' 'evaluate /data/run/auto/best.yaml'
#
# A config alone is prepared, trained, evaluated and exported. No word of a command holds a space or a comma.
set -euo pipefail
queue=${1:?give the job queue}
shift
(($# > 0)) || { echo 'give a config, or commands' >&2 && exit 2; }
if (($# == 1)) && [[ $1 != *' '* ]]; then
  set -- "prepare $1" "train $1 --resume" "evaluate $1" "export $1"
fi

after=()
for step; do
  job=$(aws batch submit-job --job-name "qianmo-${step%% *}" --job-queue "$queue" \
    --job-definition qianmo-coordinator --container-overrides "command=${step// /,}" "${after[@]}" \
    --query jobId --output text)
  echo "$job $step"
  after=(--depends-on "jobId=$job")
done
