#!/usr/bin/env bash
# Installs what building and running need and the machine lacks, from Debian's packages. Asks nothing, and does nothing
# when nothing is missing.
#
#   scripts/setup.sh         to build and run
#   scripts/setup.sh test    also what the tests use
#   scripts/setup.sh gpu     also Vulkan's loader and Mesa's drivers, a software one among them
#   scripts/setup.sh image   also what boots the image in a virtual machine, and signs updates
set -euo pipefail

RUST_MIN=1.95
NODE_MIN=18

say() { echo "setup: $*"; }
fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
# What Debian keeps out of the path of who is not root.
has_admin() { PATH=$PATH:/usr/sbin:/sbin has "$1"; }
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

check_rust() {
    export PATH="$PATH:$HOME/.cargo/bin"
    has cargo || fail "Rust is missing" "install Rust $RUST_MIN or newer with rustup, then run this again"
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    at_least "$version" "$RUST_MIN" || fail "Rust $version is too old" "run: rustup update stable"
}

has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-*.so*' >/dev/null; }
has_node() { has node && has npm && at_least "$(node --version | tr -d v)" "$NODE_MIN"; }
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && has psql; }
has_clang_headers() { compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null; }

has_vulkan() { compgen -G '/usr/lib/*/libvulkan.so.1' >/dev/null; }

# Prints one package a line.
missing() {
    has c++ || echo g++
    has cmake || echo cmake
    has pkg-config || echo pkg-config
    { has_libclang && has_clang_headers; } || echo libclang-dev
    has_node || printf '%s\n' nodejs npm
    has python3 || echo python3
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    if [ "${1:-}" = test ]; then
        has ip || echo iproute2
        has curl || echo curl
        has openssl || echo openssl
        has strace || echo strace
        { has python3 && python3 -c 'import ensurepip' 2>/dev/null; } || echo python3-venv
        has chromium || echo chromium
        has_admin sfdisk || echo fdisk
        has_admin mkfs.ext4 || echo e2fsprogs
        has_postgres || echo postgresql
    fi
    if [ "${1:-}" = gpu ]; then
        has_vulkan || echo libvulkan1
        [ -e /usr/share/vulkan/icd.d/lvp_icd.x86_64.json ] || echo mesa-vulkan-drivers
    fi
    if [ "${1:-}" = image ]; then
        has qemu-system-x86_64 || echo qemu-system-x86
        has qemu-img || echo qemu-utils
        has_admin sfdisk || echo fdisk
        has_admin mkfs.vfat || echo dosfstools
        has mcopy || echo mtools
        has gpg || echo gpg
        [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || echo ovmf
    fi
}

install() {
    has apt-get || fail "missing: $*" "this script knows Debian's apt-get only; install these with your system's package manager"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "missing: $*" "run as root: apt-get install $*"
        # -n: never ask for a password; nobody may be there to type it.
        sudo -n true 2>/dev/null || [ -t 0 ] || fail "missing: $*, and sudo wants a password" "run: sudo apt-get install $*"
        root=(sudo)
    fi
    say "installing $* with apt-get"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

check_rust
mapfile -t packages < <(missing "${1:-}")
if [ "${#packages[@]}" -gt 0 ]; then
    install "${packages[@]}"
    mapfile -t packages < <(missing "${1:-}")
    [ "${#packages[@]}" -eq 0 ] || fail "still missing after the installation: ${packages[*]}" "install a newer version by hand"
fi
say "everything needed is installed"
