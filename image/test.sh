#!/usr/bin/env bash
# Builds the image for virtual machines from the programs of `make build`, boots it, and tries what it must do.
set -euo pipefail
cd "$(dirname "$0")/.."

export PROGRAMS=target/image-programs VERSION=0.0.0
mkdir -p "$PROGRAMS/bin"
cp target/release/{allerac,allerac-engine} "$PROGRAMS/bin/"
strip --strip-debug "$PROGRAMS"/bin/*
image/build.sh --profile virtual
cd tests/image
exec ../.venv/bin/python -m pytest -v -s "$@"
