#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# needs: mpi
# Do the tools that all tests trust find a bug at all, under mpirun, with the options and the
# suppressions that all tests have? Each bug of tool_planted.c must be reported by its function's
# name, and the program without a bug must pass.
set -u
program=$ALLSHARD_BUILD_DIR/tests/tool_planted
source=$ALLSHARD_SOURCE_DIR/tests
failed=0

if [ "$ALLSHARD_TSAN" = 1 ]; then
    tool="ThreadSanitizer"
    run=("$MPIEXEC" "$MPIEXEC_NUMPROC_FLAG" 2)
    bugs=(race)
elif [ "$ALLSHARD_SANITIZE" = 1 ]; then
    tool="AddressSanitizer"
    run=("$MPIEXEC" "$MPIEXEC_NUMPROC_FLAG" 2)
    bugs=(leak use_after_free)
elif command -v valgrind >/dev/null; then
    tool="valgrind"
    run=("$source/valgrind.sh" 2)
    bugs=(leak use_after_free uninitialised)
else
    echo "skipped: valgrind is missing, and the build has no sanitizer"
    exit 77
fi

if ! told=$("${run[@]}" "$program" none 2>&1); then
    printf '%s: reports a bug where there is none:\n%s\n' "$tool" "$told"
    failed=1
fi
for bug in "${bugs[@]}"; do
    if told=$("${run[@]}" "$program" "$bug" 2>&1); then
        printf '%s: does not fail for the planted bug %s:\n%s\n' "$tool" "$bug" "$told"
        failed=1
    elif ! grep -q "planted_$bug" <<<"$told"; then
        printf '%s: does not name planted_%s:\n%s\n' "$tool" "$bug" "$told"
        failed=1
    else
        printf '%s: found %s: %s\n' "$tool" "$bug" "$(grep -m 1 "planted_$bug" <<<"$told")"
    fi
done
exit "$failed"
