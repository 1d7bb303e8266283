#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs PYTHON SCRIPT ... where PYTHON has the packages of requirements.txt; else
# exits with 77, which ctest counts as skipped.
set -eu
if ! "$1" -c 'import huggingface_hub, numpy, safetensors' 2>/dev/null; then
    echo "skipped: $1 lacks huggingface_hub, numpy or safetensors (tests/requirements.txt)"
    exit 77
fi
exec "$@"
