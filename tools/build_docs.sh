#!/usr/bin/env bash
# Build the documentation, warnings being errors. Needs requirements/docs.txt, no network.
#
#   bash tools/build_docs.sh [OUT]     # docs/_build/html by default; open OUT/index.html
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-docs/_build/html}
python -m sphinx -W --keep-going -q -b html docs "$out"
echo "documentation ready: $out/index.html"
