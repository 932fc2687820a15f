#!/usr/bin/env bash
# Builds the versions that tests update to, beside the image 0.0.0 of image/test.sh: a good one, and three that are bad in
# a way of their own. Each is signed like any other.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${INTO:?}" "${KEYS:?}" "${PROGRAMS:?}"

faults=$INTO/faults
rm -rf "$faults"

# 0.0.3: the server crashes, so that the health check waits in vain (not for five minutes: these are tests).
crash=$faults/crash/usr/lib/systemd/system
mkdir -p "$crash/allerac.service.d" "$crash/allerac-health.service.d"
printf '[Service]\nExecStart=\nExecStart=/usr/bin/false\n' > "$crash/allerac.service.d/fault.conf"
printf '[Service]\nExecStart=\nExecStart=/usr/bin/allerac health --url http://127.0.0.1 --wait-s 20 --data-dir /var/lib/allerac\n' \
    > "$crash/allerac-health.service.d/fault.conf"

# 0.0.4: the server is there, and its models cannot answer.
mkdir -p "$faults/answer/usr/bin"
printf '#!/bin/sh\nexit 1\n' > "$faults/answer/usr/bin/allerac-engine"
chmod +x "$faults/answer/usr/bin/allerac-engine"

release() {
    TRIES=$2 image/release.sh "$INTO" "$1" "$INTO/releases/$1"
    rm -f "$INTO/allerac_$1"*
}

TRIES=3 image/release.sh "$INTO" 0.0.0 "$INTO/releases/0.0.0"
VERSION=0.0.1 image/build.sh --profile virtual
release 0.0.1 3
VERSION=0.0.2 image/build.sh --profile virtual
# Not what the kernel expects: it finds /usr by its hash, and cannot mount it.
dd if=/dev/urandom of="$(echo "$INTO"/allerac_0.0.2.usr.*.raw)" bs=1M count=8 conv=notrunc status=none
release 0.0.2 1
EXTRA=$faults/crash VERSION=0.0.3 image/build.sh --profile virtual
release 0.0.3 1
EXTRA=$faults/answer VERSION=0.0.4 image/build.sh --profile virtual
release 0.0.4 2
