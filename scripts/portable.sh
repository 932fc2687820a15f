#!/usr/bin/env bash
# One build for every x86-64: programs that ask for no more than x86-64-v2, and llama.cpp's kernels as modules beside
# them, one for each generation of CPUs, of which the engine loads the best at run time.
#   scripts/portable.sh DIR      fills DIR/bin and DIR/lib/allerac
# The first build compiles all kernels and takes a quarter of an hour on two cores; later ones reuse them.
set -euo pipefail
cd "$(dirname "$0")/.."

into=${1:?where to}
build=target/portable

# The engine finds llama.cpp's libraries beside itself, wherever both are put. This replaces the flags of
# .cargo/config.toml, which build for this machine alone.
export RUSTFLAGS='-C target-cpu=x86-64-v2 -C link-arg=-Wl,-rpath,$ORIGIN/../lib/allerac'
cargo build --release --locked --target-dir "$build" --package allerac --package allerac-engine --package allerac-installer \
    --package allerac-steward --features allerac-engine/portable

# Of several builds of llama.cpp's crate the youngest.
out=$(ls -td "$build"/release/build/llama-cpp-sys-2-*/out | head -n 1)
mkdir -p "$into/bin" "$into/lib/allerac"
rm -f "$into"/lib/allerac/*.so*
cp "$build/release/"{allerac,allerac-engine,allerac-install,allerac-steward} "$into/bin/"
cp --no-dereference "$out"/lib*/lib{llama,ggml,ggml-base}.so* "$out"/backends/*.so "$into/lib/allerac/"
strip --strip-debug "$into"/bin/* "$into"/lib/allerac/*.so
image/sbom.py crates > "$into/crates.json"
du -sh "$into"
