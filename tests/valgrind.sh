#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# valgrind.sh RANKS PROGRAM [ARGUMENTS]: a job with every rank under valgrind. Fails if any rank
# reads what was never written, touches what is not its own, or leaks, but for what MPI's own
# libraries do.
set -u
ranks=$1
shift
# hwloc asks the processor for things that valgrind's does not have.
export HWLOC_COMPONENTS=-x86
exec "${MPIEXEC:-mpiexec}" -n "$ranks" valgrind -q --num-callers=40 --leak-check=full \
    --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=9 \
    "--suppressions=$(dirname "${BASH_SOURCE[0]}")/suppressions/valgrind.supp" "$@"
