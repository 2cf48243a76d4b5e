#!/usr/bin/env bash
# From a fresh clone to a distilled detector: sets up an environment, then runs
# tools/quickstart.py with the arguments given here. About 15 minutes on two CPU cores.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/setup_env.sh
python tools/quickstart.py "$@"
