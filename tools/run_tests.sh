#!/usr/bin/env bash
# Set up the environment if needed, check style and import layers, and run the tests.
#
#   bash tools/run_tests.sh [--fast] [arguments of pytest]
#
# --fast leaves out the tests that are marked as slow, for daily work.
# MMDIFFKD_STACK=openmmlab runs them with the upstream builds, MMDIFFKD_PYTHON and MMDIFFKD_TORCH with
# other versions; see tools/setup_env.sh.
# With --cov (.coveragerc) also measure the lines of mmdiffkd/ that run, and fail below 95 %.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ${1:-} == --fast ]]; then
    shift
    set -- -m 'not slow' "$@"
fi
source tools/setup_env.sh

ruff check .
ruff format --check .
lint-imports
shellcheck -x tools/*.sh .ci/run
hadolint docker/Dockerfile
# One process per core, each with one thread: threads of two processes would wait for each other.
# (nproc itself prints OMP_NUM_THREADS where that is set.)
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=1
# Upstream's mmengine (0.10.7) cannot read its own checkpoints with torch 2.6 or newer without this.
if [[ ${MMDIFFKD_STACK:-} == openmmlab ]]; then
    export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1
fi
exec python -m pytest -n "$cores" --dist worksteal "$@"
