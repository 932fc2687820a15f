#!/usr/bin/env bash
# Builds the image twice from the same programs, the second time as another machine would: another path, host name, home,
# umask, locale, one core, and later. Then every artefact must be the same, bit for bit.
#   image/reproducible.sh [mkosi's arguments]
# Settings are those of image/build.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/.cache/image/reproducible
trap 'rm -rf "$work"/*/tools "$work/another"' EXIT
rm -rf "$work"
mkdir -p "$work/one" "$work/two" "$work/another/home" "$work/another/path"
# The same sources, packages and programs, seen at another path.
INTO=$work/one image/build.sh "$@"
unshare --mount --uts bash -euo pipefail -c '
    root=$PWD work=$1
    shift
    hostname elsewhere
    mount --bind "$root" "$work/another/path"
    cd "$work/another/path"
    umask 077
    chmod -R go= image/mkosi.extra
    export HOME=$work/another/home LC_ALL=C.UTF-8 TZ=Pacific/Auckland USER=somebody
    INTO=$work/two exec taskset --cpu-list 0 image/build.sh "$@"
' bash "$work" "$@"

differs=0
for file in "$work"/one/allerac_*; do
    name=$(basename "$file")
    # mkosi keeps a link to the image beside it.
    [ ! -L "$file" ] || continue
    sum=$(sha256sum < "$file" | cut -c 1-64)
    if cmp --quiet "$file" "$work/two/$name"; then
        echo "same     $sum  $name"
    else
        echo "DIFFERS  $name: $(cmp "$file" "$work/two/$name" 2>&1 | head -n 1)"
        differs=$((differs + 1))
    fi
done
[ "$(ls "$work/one" | sort)" = "$(ls "$work/two" | sort)" ] || { echo "the builds do not have the same files" >&2; exit 1; }
[ "$differs" -eq 0 ] || { echo "$differs artefacts differ; diffoscope tells how: $work" >&2; exit 1; }
