#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# Installs the build, moves the tree elsewhere, and uses it as a stranger would: the tool, the
# examples as a CMake project of its own, the examples by pkg-config, the exported symbols.
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
[ -x "$prefix/share/allshard/slurm/task-prolog.sh" ] || fail "not installed: slurm/task-prolog.sh"

echo "== the tool"
"$prefix/bin/allshard" --version
launch "$prefix/bin/allshard" --help >/dev/null

echo "== only allshard_* is exported, the soname has the major version"
nm -D --defined-only "$library" | awk '{ print $3 }' >"$scratch/symbols"
sed -n 's/^ALLSHARD_API [^(]*[ *]\(allshard_[a-z_]*\)(.*/\1/p' "$prefix/include/allshard.h" |
    grep -v '^allshard_open_f$' >"$scratch/declared" # only where there is MPI
! grep -v -x -F -f "$scratch/symbols" "$scratch/declared" || fail "the names above are not exported"
! grep -v '^allshard_' "$scratch/symbols" || fail "the names above are exported too"
readelf -d "$library" | grep -q 'SONAME.*\[liballshard\.so\.0\]' || fail "soname"

echo "== find_package"
if ! { cmake -S "$ALLSHARD_SOURCE_DIR/examples" -B "$scratch/examples" \
    -DCMAKE_PREFIX_PATH="$prefix" && cmake --build "$scratch/examples"; } \
    >"$scratch/cmake.log" 2>&1; then
    cat "$scratch/cmake.log"
    fail "examples/CMakeLists.txt"
fi
for example in save_load nonblocking_save; do
    ldd "$scratch/examples/$example" | grep -q "$library" || fail "linked to another liballshard"
    launch "$scratch/examples/$example" "$scratch/$example-by-cmake"
    "$prefix/bin/allshard" verify "$scratch/$example-by-cmake"
done

echo "== a training loop that is started again"
train()
{
    ldd "$1" | grep -q "$library" || fail "linked to another liballshard"
    launch "$1" "$2" 60 | tee "$scratch/first.log"
    grep -q '^a fresh run' "$scratch/first.log" || fail "$1: not a fresh run"
    launch "$1" "$2" 75 | tee "$scratch/second.log"
    grep -q '^going on from checkpoint-60: ' "$scratch/second.log" || fail "$1: began anew"
    for step in 50 60 70 75; do # keep_every, and keep_last
        "$prefix/bin/allshard" verify "$2/checkpoint-$step"
    done
    [ ! -e "$2/checkpoint-10" ] || fail "$1: step 10 is still there"
    [ "$("$prefix/bin/allshard" latest "$2")" = "$2/checkpoint-75" ] || fail "$1: latest"
}
train "$scratch/examples/train_loop" "$scratch/run-by-cmake"

if [ "$ALLSHARD_WITH_MPI" = 1 ]; then
    echo "== the trainer among the examples, and on one rank again"
    trainer=$scratch/examples/train_gpt2/train_gpt2
    launch "$trainer" --tp 2 --steps 2 --root "$scratch/series" "$ALLSHARD_SOURCE_DIR/README.md"
    "$trainer" --steps 4 --root "$scratch/series" "$ALLSHARD_SOURCE_DIR/README.md" |
        tee "$scratch/trainer.log"
    grep -q '^resumed step 2 from checkpoint-2 of 2 ranks ' "$scratch/trainer.log" ||
        fail "the trainer did not go on"
    "$prefix/bin/allshard" verify "$scratch/series/checkpoint-4"
fi

echo "== pkg-config"
export PKG_CONFIG_PATH=${pc%/*}
read -ra flags <<<"$(pkg-config --cflags --libs allshard)"
for example in save_load nonblocking_save; do
    cc -std=c11 -Wall -Wextra -Werror "$ALLSHARD_SOURCE_DIR/examples/$example.c" \
        -o "$scratch/$example" "${flags[@]}" "-Wl,-rpath,${library%/*}"
    launch "$scratch/$example" "$scratch/$example-by-pkg-config"
    "$prefix/bin/allshard" verify "$scratch/$example-by-pkg-config"
done
cc -std=c11 -Wall -Wextra -Werror "$ALLSHARD_SOURCE_DIR/examples/train_loop.c" \
    -o "$scratch/train_loop" "${flags[@]}" "-Wl,-rpath,${library%/*}"
train "$scratch/train_loop" "$scratch/run-by-pkg-config"
echo "== good"
