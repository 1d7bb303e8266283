#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The pack kernel's PTX, that of this build and what clang makes of the source, is what CUDA's
# assembler takes for every device that it knows, all of it in registers. It is not run: that is
# for ./run gpu. Skipped without the assembler, ptxas.
set -eu

build=$ALLSHARD_BUILD_DIR
source=$ALLSHARD_SOURCE_DIR
PATH=$PATH:/usr/local/cuda/bin
command -v ptxas >/dev/null || {
    echo "skipped: ptxas is missing; it comes with the CUDA toolkit"
    exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
bad=0

# assemble NAME FILE: for all that this ptxas knows and the PTX is not too new for.
assemble()
{
    local name=$1 file=$2 lowest arch taken=0
    lowest=$(sed -n 's/^\.target sm_\([0-9]*\).*/\1/p' "$file")
    grep -E '^\.(version|target)' "$file" | tr '\n' ' '
    echo "by $name"
    for arch in 50 60 70 75 80 86 89 90 100 120; do
        if [ "$arch" -lt "$lowest" ] ||
            ! ptxas --help | grep -q "'sm_$arch'"; then
            continue
        fi
        if ! ptxas -v -arch="sm_$arch" "$file" -o "$scratch/cubin" >"$scratch/log" 2>&1 ||
            [ "$(grep -cE '^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' \
                "$scratch/log")" -ne 2 ]; then
            echo "sm_$arch:"
            cat "$scratch/log"
            bad=1
            continue
        fi
        taken=$((taken + 1))
        echo "sm_$arch: $(grep -o 'Used [0-9]* registers' "$scratch/log" | tr '\n' ' ')"
    done
    if [ "$taken" -eq 0 ]; then
        echo "this ptxas takes it for no device"
        bad=1
    fi
}

[ ! -e "$build/kernel/pack_kernel.ptx" ] || assemble "this build" "$build/kernel/pack_kernel.ptx"
if command -v clang >/dev/null && clang -print-targets | grep -q nvptx64; then
    clang -x cuda --cuda-device-only --cuda-gpu-arch=sm_50 -nocudainc -nocudalib -ffreestanding \
        -Wno-unknown-cuda-version -std=c++17 -O3 -S -I"$source/src" \
        "$source/src/device/pack_kernel.cu" -o "$scratch/clang.ptx"
    assemble clang "$scratch/clang.ptx"
fi
exit $bad
