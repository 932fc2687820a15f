#!/usr/bin/env bash
# Builds the appliance's image into target/image.
#   image/build.sh [mkosi's arguments]       for example --profile virtual, for a virtual machine
#   image/build.sh --print-version           builds nothing
# Settings: PROGRAMS (what `make portable` made; target/dist), MODELS (a data directory's models; the starter model's),
# VERSION (of the image; the workspace's with the number of commits), KEYS (whose updates boxes take, made by `make keys`;
# .keys, without which they take none), INTO (another folder than target/image), EXTRA (a tree to lay over the system), MIRROR and SECURITY_MIRROR (of Debian; this machine's own).
set -euo pipefail
cd "$(dirname "$0")/.."

# What is copied has the same modes whoever builds; git gives files those of the umask that it ran under.
umask 022
chmod -R u=rwX,go=rX image/mkosi.extra

PROGRAMS=${PROGRAMS:-target/dist}
MODELS=${MODELS:-.cache/test-data/models}
# It grows with every commit: a box goes to higher numbers only.
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1).$(git rev-list --count HEAD)}
if [ "${1:-}" = --print-version ]; then
    echo "$VERSION"
    exit
fi
KEYS=${KEYS:-.keys}
INTO=${INTO:-target/image}
RELEASE=trixie
MKOSI_MIN=25
CACHE=$PWD/.cache/image

# Where this machine gets Debian's packages: any of its archives of this kind will do.
mirror_of() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E "/$1/?$" | sort -u | head -n 1 | sed 's|/$||'
}

# The lists of packages that apt reads: those of the release, its updates and its security fixes, and no others.
sources() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    cat <<SOURCES
Types: deb
URIs: $mirror
Suites: $RELEASE $RELEASE-updates
Components: main non-free-firmware
Signed-By: $keyring

Types: deb
URIs: $security
Suites: $RELEASE-security
Components: main non-free-firmware
Signed-By: $keyring
SOURCES
}

# mkosi as this machine has it, else the release's own package, unpacked.
find_mkosi() {
    local version
    version=$(mkosi --version 2>/dev/null | sed 's/^mkosi \([0-9]*\).*/\1/' || true)
    if [ "${version:-0}" -ge "$MKOSI_MIN" ]; then
        mkosi=(mkosi)
        return
    fi
    if [ ! -d "$CACHE/mkosi/usr" ]; then
        mkdir -p "$CACHE/apt/lists/partial" "$CACHE/apt/archives/partial" "$CACHE/apt/sources"
        cp "$CACHE/sandbox/etc/apt/sources.list.d/mkosi.sources" "$CACHE/apt/sources/"
        cat > "$CACHE/apt/apt.conf" <<APT
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$CACHE/apt/sources";
Dir::State::lists "$CACHE/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$CACHE/apt";
APT
        APT_CONFIG=$CACHE/apt/apt.conf apt-get -q update
        (cd "$CACHE/apt" && APT_CONFIG=$CACHE/apt/apt.conf apt-get -q download mkosi)
        dpkg --extract "$CACHE"/apt/mkosi_*.deb "$CACHE/mkosi.new"
        mv "$CACHE/mkosi.new" "$CACHE/mkosi"
    fi
    export PYTHONPATH=$CACHE/mkosi/usr/lib/python3/dist-packages
    mkosi=(python3 -m mkosi)
}

mirror=${MIRROR:-$(mirror_of debian)}
security=${SECURITY_MIRROR:-$(mirror_of debian-security)}
[ -n "$mirror" ] && [ -n "$security" ] || { echo "apt knows no mirror of Debian; give MIRROR and SECURITY_MIRROR" >&2; exit 1; }
for program in allerac allerac-engine allerac-install allerac-steward; do
    [ -x "$PROGRAMS/bin/$program" ] || { echo "$PROGRAMS/bin/$program is missing; build it: make portable" >&2; exit 1; }
done

[ -e "$PROGRAMS/crates.json" ] || { echo "$PROGRAMS/crates.json is missing; make it: image/sbom.py crates" >&2; exit 1; }

mkdir -p "$CACHE/packages" "$CACHE/work" "$CACHE/sandbox/etc/apt/sources.list.d" target/image "$INTO"
sources > "$CACHE/sandbox/etc/apt/sources.list.d/mkosi.sources"
find_mkosi

# Pieces of an earlier build of this version have other names, and would be summed up with the new ones.
rm -f "$INTO/allerac_$VERSION" "$INTO/allerac_$VERSION".*
rm -rf "$CACHE/tree"
mkdir -p "$CACHE/tree/usr/bin" "$CACHE/tree/usr/lib/allerac" "$CACHE/tree/usr/lib/systemd" "$CACHE/tree/usr/share/allerac"
cp "$PROGRAMS"/bin/{allerac,allerac-engine,allerac-install,allerac-steward} "$CACHE/tree/usr/bin/"
[ ! -d "$PROGRAMS/lib/allerac" ] || cp --no-dereference "$PROGRAMS"/lib/allerac/* "$CACHE/tree/usr/lib/allerac/"
# In place of the distribution's own keys: without ours there, no update is believed.
if [ -e "$KEYS/update.gpg" ]; then
    cp "$KEYS/update.gpg" "$CACHE/tree/usr/lib/systemd/import-pubring.gpg"
else
    echo "note: $KEYS has no keys; boxes with this image take no updates (make keys)"
    : > "$CACHE/tree/usr/lib/systemd/import-pubring.gpg"
fi
[ ! -d "$MODELS" ] || cp -r "$MODELS" "$CACHE/tree/usr/share/allerac/models"

# The first memory disk takes rules of udev from the kernel's command line, and from nowhere else that mkosi can fill.
slots=$(grep -v '^#' image/slots.rules | base64 --wrap 0)

"${mkosi[@]}" --force \
    --kernel-command-line "systemd.set_credential_binary=udev.rules.90-allerac:$slots" \
    --image-version "$VERSION" \
    --source-date-epoch "$(git log -1 --format=%ct)" \
    --sandbox-tree "$CACHE/sandbox" --tools-tree-sandbox-tree "$CACHE/sandbox" \
    --extra-tree "$CACHE/tree" ${EXTRA:+--extra-tree "$EXTRA"} \
    --output-directory "$INTO" \
    "$@" build

# What it is made of, and what everything must be.
name=allerac_$VERSION
image/sbom.py write "$INTO/$name.manifest" "$PROGRAMS/crates.json" "$MODELS" "$(git log -1 --format=%ct)" > "$INTO/$name.spdx.json"
(cd "$INTO" && find . -maxdepth 1 -type f -name "${name}[.]*" ! -name '*.SHA256SUMS' -printf '%P\n' | sort | xargs sha256sum -- > "$name.SHA256SUMS")
