#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# Installs the build, moves the tree elsewhere, and uses it as a stranger would: the tool, the
# example as a CMake project of its own, the example by pkg-config, the exported symbols.
set -eu

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/moved

fail()
{
    echo "failed: $*"
    exit 1
}

# Runs a program on 2 ranks, or alone where there is no MPI.
launch()
{
    if [ "$ALLSHARD_WITH_MPI" = 1 ]; then
        "$MPIEXEC" "$MPIEXEC_NUMPROC_FLAG" 2 "$@"
    else
        "$@"
    fi
}

echo "== install, and move what was installed"
cmake --install "$ALLSHARD_BUILD_DIR" --prefix "$scratch/first" >"$scratch/install.log" ||
    { cat "$scratch/install.log"; fail "cmake --install"; }
mv "$scratch/first" "$prefix"
library=$(find "$prefix" -name 'liballshard.so.0')
pc=$(find "$prefix" -name allshard.pc)
for file in "$prefix/bin/allshard" "$prefix/include/allshard.h" "$library" "$pc"; do
    [ -f "$file" ] || fail "not installed: $file"
done

echo "== the tool"
"$prefix/bin/allshard" --version
launch "$prefix/bin/allshard" --help >/dev/null

echo "== only allshard_* is exported, the soname has the major version"
nm -D --defined-only "$library" | awk '{ print $3 }' >"$scratch/symbols"
grep -q '^allshard_save$' "$scratch/symbols" || fail "allshard_save is not exported"
! grep -v '^allshard_' "$scratch/symbols" || fail "the names above are exported too"
readelf -d "$library" | grep -q 'SONAME.*\[liballshard\.so\.0\]' || fail "soname"

echo "== find_package"
if ! { cmake -S "$ALLSHARD_SOURCE_DIR/examples" -B "$scratch/examples" \
    -DCMAKE_PREFIX_PATH="$prefix" && cmake --build "$scratch/examples"; } \
    >"$scratch/cmake.log" 2>&1; then
    cat "$scratch/cmake.log"
    fail "examples/CMakeLists.txt"
fi
ldd "$scratch/examples/save_load" | grep -q "$library" || fail "linked to another liballshard"
launch "$scratch/examples/save_load" "$scratch/by-cmake"
"$prefix/bin/allshard" verify "$scratch/by-cmake"

echo "== pkg-config"
export PKG_CONFIG_PATH=${pc%/*}
read -ra flags <<<"$(pkg-config --cflags --libs allshard)"
cc -std=c11 -Wall -Wextra -Werror "$ALLSHARD_SOURCE_DIR/examples/save_load.c" \
    -o "$scratch/save_load" "${flags[@]}" "-Wl,-rpath,${library%/*}"
launch "$scratch/save_load" "$scratch/by-pkg-config"
"$prefix/bin/allshard" verify "$scratch/by-pkg-config"
echo "== good"
