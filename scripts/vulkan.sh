#!/usr/bin/env bash
# Builds llama.cpp's module for graphics processors (Vulkan), from the same sources as the programs: those of the crate
# that Cargo.lock pins. The programs are not built anew for it; an engine loads the module when it is there.
#   scripts/vulkan.sh DIR      puts libggml-vulkan.so, and what it needs of ggml, into DIR
# The compiler of shaders and the headers come from one release of Debian whatever this machine has, because older ones
# leave out what makes matrices fast (cooperative matrices, whole-number dot products) or do not compile at all. They are
# fetched with apt and unpacked into .cache/vulkan; nothing is installed. The first build compiles about 1,500 shaders.
set -euo pipefail
cd "$(dirname "$0")/.."

into=${1:?where to}
RELEASE=trixie
CACHE=$PWD/.cache/vulkan
tools=$CACHE/$RELEASE
libraries=$tools/usr/lib/x86_64-linux-gnu
build=target/vulkan

# Where this machine gets Debian's packages: any of its archives will do.
mirror_of_debian() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1 | sed 's|/$||'
}

# Fetches and unpacks the tools with all that they need, C library and all, so that they run here.
unpack_tools() {
    local mirror
    mirror=${MIRROR:-$(mirror_of_debian)}
    [ -n "$mirror" ] || { echo "apt knows no mirror of Debian; give MIRROR" >&2; exit 1; }
    rm -rf "$CACHE/apt" "$tools.new"
    mkdir -p "$CACHE"/apt/{lists,archives}/partial "$tools.new"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $RELEASE main" > "$CACHE/apt/sources.list"
    : > "$CACHE/apt/status"
    cat > "$CACHE/apt/apt.conf" <<APT
Dir::Etc::sourcelist "$CACHE/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$CACHE/apt";
Dir::State::lists "$CACHE/apt/lists";
Dir::State::status "$CACHE/apt/status";
Dir::Cache "$CACHE/apt";
Acquire::Languages "none";
APT
    export APT_CONFIG=$CACHE/apt/apt.conf
    apt-get -q update
    apt-get -q --yes --no-install-recommends --download-only install glslc libvulkan-dev spirv-headers
    local package
    for package in "$CACHE"/apt/archives/*.deb; do
        dpkg --extract "$package" "$tools.new"
    done
    # Under the C library that it was made for.
    cat > "$tools.new/glslc" <<SHADERS
#!/bin/sh
exec '$libraries/ld-linux-x86-64.so.2' --library-path '$libraries' '$tools/usr/bin/glslc' "\$@"
SHADERS
    chmod +x "$tools.new/glslc"
    rm -rf "$tools" "$CACHE/apt"
    mv "$tools.new" "$tools"
}

# The sources that cargo has for the version in Cargo.lock.
sources() {
    local manifest
    manifest=$(cargo metadata --locked --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
print(next(package["manifest_path"] for package in packages if package["name"] == "llama-cpp-sys-2"))')
    echo "$(dirname "$manifest")/llama.cpp"
}

[ -x "$tools/glslc" ] || unpack_tools
# Without the processor's own kernels: those are the programs'.

cmake -S "$(sources)" -B "$build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF \
    -DGGML_CPU=OFF -DGGML_VULKAN=ON -DLLAMA_BUILD_{APP,COMMON,TESTS,TOOLS,EXAMPLES,SERVER}=OFF \
    -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' \
    -DVulkan_INCLUDE_DIR="$tools/usr/include" -DVulkan_LIBRARY="$libraries/libvulkan.so" \
    -DVulkan_GLSLC_EXECUTABLE="$tools/glslc" -DSPIRV-Headers_DIR="$tools/usr/share/cmake/SPIRV-Headers" \
    -DCMAKE_CXX_FLAGS="-isystem $tools/usr/include" > "$build.log" 2>&1 || { tail -n 30 "$build.log" >&2; exit 1; }
cmake --build "$build" --target ggml-vulkan --parallel "${JOBS:-$(nproc)}" >> "$build.log" 2>&1 || { tail -n 50 "$build.log" >&2; exit 1; }
mkdir -p "$into"
find "$build" -name libggml-vulkan.so -exec cp {} "$into/" \;
find "$build" -name 'libggml-base.so.?' -exec cp --dereference {} "$into/" \;
strip --strip-debug "$into"/*.so*
du -sh "$into"
