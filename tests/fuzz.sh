#!/usr/bin/env bash
# Fuzzes every parser of outside input with libFuzzer for a while each.
#   tests/fuzz.sh [SECONDS] [TARGET]...     15 seconds and all targets by default
set -euo pipefail
cd "$(dirname "$0")/fuzz"

seconds=${1:-15}
[ $# -gt 0 ] && shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(firmware_tables link_frames passkeys tool_calls tuning_files upstream_events wire_requests)

# Coverage is what guides libFuzzer; these flags of the compiler are stable.
export RUSTFLAGS="-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
-C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
-C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1"
target_dir=../../target/fuzz
# A named target keeps the flags away from build scripts.
triple=$(rustc -vV | sed -n "s/^host: //p")
cargo build --release --locked --target "$triple" --target-dir "$target_dir"

for target in "${targets[@]}"; do
    echo "== fuzzing $target for $seconds s"
    corpus=../../.cache/fuzz/$target
    mkdir -p "$corpus"
    seeds=seeds/$target
    [ -d "$seeds" ] || seeds=
    "$target_dir/$triple/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 \
        -artifact_prefix="$corpus/" -print_final_stats=0 -verbosity=0 "$corpus" $seeds
done
echo "no target crashed"
