#!/usr/bin/env bash
# Train on several GPUs (or CPU processes) of one or more machines.
#
#   bash tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]
#
# On N machines, run it on each with NNODES=N, its own NODE_RANK and MASTER_ADDR=<first machine>.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS must be a number from 1, got '$gpus'" >&2
    exit 2
fi

exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
