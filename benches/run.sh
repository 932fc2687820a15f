#!/usr/bin/env bash
# Measures and writes benches/RESULTS.md. Arguments go to the program: benches/run.sh --rounds 3 --what decode
set -euo pipefail
cd "$(dirname "$0")/.."

tests/run.sh --prepare python
cargo build --release --locked -p allerac-benches
cargo build --release --locked -p allerac-engine-link --example engine_stub
tests/.venv/bin/python benches/gemma.py .cache/bench-gemma/models
target/release/allerac-bench --out benches/RESULTS.md --second-models .cache/bench-gemma/models "$@"
