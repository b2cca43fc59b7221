#!/usr/bin/env bash
# Runs the benchmarks with the project's own environment; arguments go to benchmarks.run.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
if [[ ! -x .venv/bin/python ]]; then
    bash cli.sh --help > /dev/null # makes the environment on first use
fi
exec .venv/bin/python -m benchmarks.run "$@"
