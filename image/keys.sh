#!/usr/bin/env bash
# Makes the keys by which images and updates are signed, once. Boxes take updates that these keys signed, and no others:
# keep the folder safe, and keep a copy.
#   image/keys.sh            into .keys, or the folder that KEYS names
set -euo pipefail
cd "$(dirname "$0")/.."

keys=${KEYS:-.keys}
if [ -e "$keys/update.gpg" ]; then
    echo "$keys has keys already"
    exit 0
fi
mkdir -p -m 700 "$keys/gnupg"
gpg --homedir "$keys/gnupg" --batch --quiet --passphrase '' --quick-generate-key 'Allerac updates' ed25519 sign never
gpg --homedir "$keys/gnupg" --batch --quiet --export > "$keys/update.gpg.new"
mv "$keys/update.gpg.new" "$keys/update.gpg"
gpgconf --homedir "$keys/gnupg" --kill all
echo "$keys: keep it safe, and keep a copy; boxes built with it take updates that it signed"
