#!/usr/bin/env bash
# Runs cargo-deny with the given arguments, building it first when this machine lacks the pinned version. It is kept
# outside the clone, so that a fresh clone does not build it again. The dev profile without debug information builds in
# about a minute on two cores, and a check takes a second either way.
set -euo pipefail

VERSION=0.20.2
tools="${XDG_CACHE_HOME:-$HOME/.cache}/allerac/tools/cargo-deny-$VERSION"

if ! [ -x "$tools/bin/cargo-deny" ]; then
    echo "cargo-deny: building version $VERSION into $tools (once)"
    target=$(mktemp -d)
    trap 'rm -rf "$target"' EXIT
    # From /: the project's own cargo settings are not for other programs.
    (cd / && CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 cargo install cargo-deny --quiet --locked \
        --version "$VERSION" --no-default-features --profile dev --root "$tools" --target-dir "$target")
fi
"$tools/bin/cargo-deny" "$@"
