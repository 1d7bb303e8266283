# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What has to be there for ./run, which reads this, and how to get it. Uses its step, say and stop.

# Is what the Debian package $1 brings here, from wherever it came?
present()
{
    case $1 in
    gcc) command -v cc gcc >/dev/null ;;
    libc6-dev) [ -e /usr/include/stdio.h ] ;;
    ninja-build) command -v ninja >/dev/null ;;
    openmpi-bin) command -v mpiexec >/dev/null ;;
    libopenmpi-dev) command -v mpicc >/dev/null ;;
    libjansson-dev) pkg-config --exists jansson 2>/dev/null ;;
    libxxhash-dev) pkg-config --exists libxxhash 2>/dev/null ;;
    zlib1g-dev) pkg-config --exists zlib 2>/dev/null ;;
    liburing-dev) pkg-config --exists liburing 2>/dev/null ;;
    libcmocka-dev) pkg-config --exists cmocka 2>/dev/null ;;
    python3-venv) [ -n "$(venv_python)" ] ;;
    mpich) command -v mpiexec.mpich >/dev/null ;;
    libmpich-dev) command -v mpicc.mpich >/dev/null ;;
    e2fsprogs) PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4 >/dev/null ;;
    xfsprogs) PATH=$PATH:/usr/sbin:/sbin command -v mkfs.xfs >/dev/null ;;
    glusterfs-server) command -v glusterd >/dev/null ;;
    iproute2) command -v ip >/dev/null ;;
    slurmctld | slurmd | munge) PATH=$PATH:/usr/sbin:/sbin command -v "${1/%munge/munged}" >/dev/null ;;
    slurm-client) command -v sbatch >/dev/null ;;
    slurm-wlm-basic-plugins) compgen -G '/usr/lib/*/slurm-wlm/auth_munge.so' >/dev/null ;;
    libclang-rt-*) compgen -G "$(clang -print-resource-dir)/lib/*/libclang_rt.fuzzer*" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# The first Python that can make a virtual environment.
venv_python()
{
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            say "$python"
            return
        fi
    done
}

# Installs the missing ones of the packages named. Succeeds if none is missing then.
obtain()
{
    local package missing=() as_root=()
    for package in "$@"; do
        present "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    step "install ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        say "There is no apt-get here. These are Debian's names of what is missing:"
        say "  ${missing[*]}"
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "Not root, and no sudo without a password. Missing; install by hand:"
            say "  sudo apt-get install ${missing[*]}"
            return 1
        fi
        as_root=(sudo -n)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
               apt-get -qq -o Dpkg::Use-Pty=0)
    local install=("${apt[@]}" install -y --no-install-recommends "${missing[@]}")
    mkdir -p build
    # Old package lists name files that the mirror no longer has: refresh, and try once more.
    if ! "${install[@]}" </dev/null >build/apt.log 2>&1; then
        if ! { "${apt[@]}" update && "${install[@]}"; } </dev/null >build/apt.log 2>&1; then
            tail -n 5 build/apt.log
        fi
    fi
    hash -r
    local still=()
    for package in "${missing[@]}"; do
        present "$package" || still+=("$package")
    done
    if [ ${#still[@]} -gt 0 ]; then
        say "Could not install: ${still[*]} (the log is build/apt.log)"
        return 1
    fi
}

# GlusterFS, for the tests of several hosts, and Slurm, for those of its job scripts: both run daemons
# of their own where no other sees them. Those that the packages bring must not start here.
obtain_hosts()
{
    obtain_daemons "the tests of several hosts" glusterfs-server iproute2
    obtain_daemons "the tests of slurm/" slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge \
        iproute2
}

# obtain_daemons WHAT PACKAGE...: those that are missing; without them WHAT is skipped.
obtain_daemons()
(
    guard=/usr/sbin/policy-rc.d
    what=$1
    shift
    missing=()
    for package in "$@"; do
        present "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || return 0 # they would be skipped in any case
    if [ -d /run/systemd/system ]; then
        say "Not installed here, where their services might start: ${missing[*]}."
        say "  $what will be skipped"
        return
    fi
    if [ ! -e "$guard" ]; then
        trap 'rm -f "$guard"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$guard" && chmod 755 "$guard"
    fi
    obtain "${missing[@]}"
)

build_packages=(gcc libc6-dev cmake ninja-build pkg-config libopenmpi-dev openmpi-bin
                libjansson-dev libxxhash-dev zlib1g-dev liburing-dev)

obtain_build()
{
    obtain "${build_packages[@]}" "$@" && return
    local package
    for package in gcc cmake pkg-config libopenmpi-dev openmpi-bin libjansson-dev libxxhash-dev \
        zlib1g-dev; do
        present "$package" || stop "Cannot build without $package."
    done
    present liburing-dev || say "Without liburing-dev the engine uring works as direct does."
    # A package that only one part needs: that part says so when its turn comes.
    if ! present ninja-build && ! command -v make >/dev/null; then
        stop "Cannot build without ninja-build or make."
    fi
}
