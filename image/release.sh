#!/usr/bin/env bash
# Makes of a built image what boxes update to: packed pieces, their checksums, and the signature.
#   image/release.sh IMAGE_FOLDER VERSION INTO
# Settings: KEYS (from `make keys`; .keys), TRIES (how often boxes try this version before they give it up; 3).
set -euo pipefail

images=$1 version=$2 into=$3
keys=${KEYS:-$(dirname "$0")/../.keys}
[ -e "$keys/update.gpg" ] || { echo "$keys has no keys to sign with; make some: make keys" >&2; exit 1; }

mkdir -p "$into"
rm -f "$into"/*
for part in "$images/allerac_$version".usr*.raw; do
    gzip --no-name --fast --stdout "$part" > "$into/$(basename "$part").gz"
done
gzip --no-name --fast --stdout "$images/allerac_$version.efi" > "$into/allerac_$version+${TRIES:-3}-0.efi.gz"
[ "$(find "$into" -name '*.gz' | wc -l)" -eq 3 ] || { echo "the image $version is not whole in $images" >&2; exit 1; }
(cd "$into" && sha256sum -- *.gz > SHA256SUMS)
gpg --homedir "$keys/gnupg" --batch --yes --quiet --detach-sign --output "$into/SHA256SUMS.gpg" "$into/SHA256SUMS"
du -sh "$into"
