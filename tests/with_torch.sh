#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs SCRIPT with the first Python that has torch and transformers: that of ALLSHARD_TORCH_PYTHON,
# which ./run test-torch makes, or PYTHON; else exits with 77, which ctest counts as skipped.
set -eu
plain=$1
shift
for python in "${ALLSHARD_TORCH_PYTHON:-}" "$plain"; do
    if [ -n "$python" ] && "$python" -c 'import torch, transformers' 2>/dev/null; then
        exec "$python" "$@"
    fi
done
echo "skipped: $plain lacks torch or transformers: ./run test-torch installs them"
exit 77
