#!/usr/bin/env bash
# Builds the image for virtual machines, boots it, and tries what it must do. The programs are built anew, without the
# instructions that an emulated processor lacks and with one set of kernels, in a folder of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

export PROGRAMS=target/image-programs VERSION=0.0.0 INTO=target/image-test KEYS=target/image-test/keys
mkdir -p "$PROGRAMS/bin" "$INTO"
RUSTFLAGS='-C target-cpu=x86-64-v3' cargo build --release --locked --target-dir target/virtual \
    --package allerac --package allerac-engine --package allerac-installer --package allerac-steward
cp target/virtual/release/{allerac,allerac-engine,allerac-install,allerac-steward} "$PROGRAMS/bin/"
strip --strip-debug "$PROGRAMS"/bin/*
image/sbom.py crates > "$PROGRAMS/crates.json"
image/keys.sh
image/build.sh --profile virtual
image/test-updates.sh
ALLERAC_IMAGES=$PWD/$INTO; export ALLERAC_IMAGES
cd tests/image
exec ../.venv/bin/python -m pytest -v -s "$@"
