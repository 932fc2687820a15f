#!/usr/bin/env bash
# The whole-product suites: real clients, the real programs, a real model.
#   tests/run.sh [python|js|web]...      all of them by default
#   tests/run.sh --prepare python        only fills tests/.venv
set -euo pipefail
cd "$(dirname "$0")"

NODE_MIN=20.15
NODE_FROM_NPM=22.21.1

# Fills tests/.venv when it is missing or was made from another requirements.txt.
python_environment() {
    if ! cmp -s requirements.txt .venv/requirements.txt; then
        rm -rf .venv
        python3 -m venv .venv
        .venv/bin/pip install --quiet --disable-pip-version-check --no-input -r requirements.txt
        cp requirements.txt .venv/requirements.txt
    fi
}

# Fills node_modules of a folder when it is missing or older than its lock.
node_modules() {
    if [ ! "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
        (cd "$1" && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json)
    fi
}

# aimock wants a younger Node.js than Debian 12 has; npm carries one.
node_binary() {
    if [ "$(printf '%s\n' "$NODE_MIN" "$(node --version | tr -d v)" | sort -V | head -n 1)" = "$NODE_MIN" ]; then
        command -v node
    else
        npm exec --yes --loglevel=error --package="node@$NODE_FROM_NPM" -- sh -c 'command -v node'
    fi
}

if [ "$*" = "--prepare python" ]; then
    python_environment
    exit
fi

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(python js web)

for program in ../target/release/allerac ../target/release/allerac-engine; do
    [ -x "${ALLERAC_BINARY:-$program}" ] || { echo "$program is missing; build it: make build" >&2; exit 1; }
done

failed=()
for suite in "${suites[@]}"; do
    echo "== $suite"
    case $suite in
        python)
            python_environment
            (cd python && ../.venv/bin/python -m pytest) || failed+=("$suite")
            ;;
        js)
            node_modules js
            node=$(node_binary)
            (cd js && "$node" --test --test-concurrency=1) || failed+=("$suite")
            ;;
        web)
            node_modules js
            node_modules web
            (cd web && node --test --test-concurrency=1) || failed+=("$suite")
            ;;
        *)
            echo "there is no suite $suite; there are python, js and web" >&2
            exit 2
            ;;
    esac
done

if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
