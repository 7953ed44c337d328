#!/usr/bin/env bash
# Writes the secrets of the compose file, once: passwords drawn at random, in a folder for this user alone.
# The containers run as other users, so the files can be read by whoever can enter the folder.
set -euo pipefail
folder=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets}
if [[ -e $folder ]]; then
  echo "$folder is there already; remove it to draw new passwords" >&2
  exit 2
fi
mkdir -m 700 "$folder"

secret() { openssl rand -hex 24; }
redis=$(secret)
key=$(secret)
cat >"$folder/redis-users.acl" <<ACL
user default off
user qianmo on >$redis resetchannels &{qianmo}:* ~{qianmo}:* -@all +@read +@write +@scripting +@transaction -@dangerous +publish +subscribe +ping +time +client|setname +info
ACL
cat >"$folder/qianmo.env" <<ENV
QIANMO_REDIS_URL=redis://qianmo:$redis@redis:6379
AWS_ACCESS_KEY_ID=qianmo
AWS_SECRET_ACCESS_KEY=$key
AWS_REGION=us-east-1
AWS_ENDPOINT_URL_S3=http://s3:7070
ENV
cat >"$folder/s3.env" <<ENV
ROOT_ACCESS_KEY=qianmo
ROOT_SECRET_KEY=$key
ENV
secret >"$folder/serve-token"
secret >"$folder/grafana-password"
chmod 644 "$folder"/*
