# SPDX-License-Identifier: Apache-2.0
"""What the power_*.py tests share: file systems of their own, in a mount namespace of their own.

A test that needs them begins with `enter()`, which starts it anew under unshare(1): whatever ends
it, its mounts go with it, and the loop devices, which are marked to go with their last user. All
images lie on a tmpfs in that namespace. Standard library only."""

import atexit
import contextlib
import ctypes
import fcntl
import os
import pathlib
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

LONG = os.environ.get("ALLSHARD_LONG", "") not in ("", "0")
TOOL = os.environ.get("ALLSHARD_BIN", "allshard")
PROGRAMS = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", "build/release")) / "tests"
MPIEXEC = shlex.split(os.environ.get("MPIEXEC", "mpirun"))
COUNT_FLAG = os.environ.get("MPIEXEC_NUMPROC_FLAG", "-n")
SKIPPED = 77
PREFIX = "allshard-power-"
MARK = "ALLSHARD_POWER_NAMESPACE"
LOOP_SET_STATUS64, LOOP_GET_STATUS64, LO_FLAGS_AUTOCLEAR = 0x4C04, 0x4C05, 4
FS_IOC_SHUTDOWN = 0x8004587D
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
LEAST_MB = {"ext4": 16, "xfs": 300}


def skip(why):
    print(f"skipped: {why}", flush=True)
    sys.exit(SKIPPED)


def fail(text):
    print(f"FAILED: {text}", flush=True)
    sys.exit(1)


def say(text):
    print(text, flush=True)


def die_with_parent():
    """Between fork and exec: the child ends when the test is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run(command, timeout=120, check=True, **more):
    """Output and status; a command that hangs is an error of its own."""
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                              timeout=timeout, check=False, stdin=subprocess.DEVNULL,
                              preexec_fn=die_with_parent, **more)
    except subprocess.TimeoutExpired as e:
        fail(f"{command} did not end in {timeout} s: {e.stdout} {e.stderr}")
    if check and done.returncode != 0:
        fail(f"{command}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def mpirun(ranks, *command, **more):
    return run([*MPIEXEC, COUNT_FLAG, ranks, *command], **more)


def need(*tools):
    """The tools of mkfs and mount lie where users who are not root do not look."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for tool in tools:
        if not shutil.which(tool):
            skip(f"there is no {tool}")


def sweep():
    """Empty folders that killed runs left; all else of theirs went with their namespace."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        pid = folder.name[len(PREFIX):].split("-")[0]
        if pid.isdigit() and not pathlib.Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def enter():
    """Root, in a mount namespace of its own, or the end as skipped. The scratch folder, a tmpfs."""
    if os.geteuid() != 0:
        skip("needs root, for mounts")
    need("unshare", "mount", "umount", "losetup")
    if os.environ.get(MARK) != str(os.getpid()):
        probe = subprocess.run(["unshare", "--mount", "--propagation", "private", "mount", "-t",
                                "tmpfs", "none", tempfile.gettempdir()],
                               capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            skip(f"cannot mount here: {probe.stderr.strip()}")
        os.environ[MARK] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private",
                              sys.executable, *sys.argv])
    sweep()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", folder])
    os.environ["TMPDIR"] = str(folder)

    def leave():
        # Not lazily: ranks of a killed mpirun live on for a moment, and must not find another
        # file system under the path. What stays busy goes with the namespace.
        for _ in range(100):
            if subprocess.run(["umount", "--recursive", folder], capture_output=True,
                              check=False).returncode == 0:
                folder.rmdir()
                return
            time.sleep(0.05)

    atexit.register(leave)
    return folder


def is_own(fd):
    """Is this the root of a small file system of the test, and not one that others use?"""
    here, above = os.fstat(fd), os.stat("..", dir_fd=fd)
    size = os.fstatvfs(fd)
    return (here.st_dev not in (above.st_dev, os.stat("/").st_dev) and
            size.f_blocks * size.f_frsize < 1 << 30)


def shut_down(folder):
    """FS_IOC_SHUTDOWN without flushing the log: as if the power had gone."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not is_own(fd):
            fail(f"{folder} is no file system of this test")
        fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", 2))
    finally:
        os.close(fd)


class Image:
    """A file system in a file, on a loop device that goes with its last user."""

    def __init__(self, folder, kind, megabytes, make=()):
        self.path = folder / f"{kind}.img"
        with open(self.path, "wb") as image:
            image.truncate(max(megabytes, LEAST_MB[kind]) << 20)
        run([*MKFS[kind], *make, self.path])
        done = run(["losetup", "--find", "--show", self.path], check=False)
        if done.returncode != 0:
            skip(f"no loop device can be had: {done.stderr.strip()}")
        self.device = done.stdout.strip()
        self.fd = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
        status = bytearray(fcntl.ioctl(self.fd, LOOP_GET_STATUS64, bytes(232)))
        flags, = struct.unpack_from("<I", status, 52)
        struct.pack_into("<I", status, 52, flags | LO_FLAGS_AUTOCLEAR)
        fcntl.ioctl(self.fd, LOOP_SET_STATUS64, bytes(status))

    def close(self):
        os.close(self.fd)
        self.path.unlink()


def has(kind):
    """Can the file system be made and mounted here?"""
    def known():
        return kind in pathlib.Path("/proc/filesystems").read_text().split()

    if not known() and shutil.which("modprobe"):
        subprocess.run(["modprobe", kind], capture_output=True, check=False)
    return known() and shutil.which(MKFS[kind][0]) is not None


def mount(folder, source, kind, options=None):
    folder.mkdir(exist_ok=True)
    run(["mount", "-t", kind, *(["-o", options] if options else []), source, folder])
    return folder


def unmount(folder):
    """An io_uring that has just ended may hold on for a moment."""
    for _ in range(500):
        if run(["umount", folder], check=False).returncode == 0:
            return
        time.sleep(0.02)
    fail(f"{folder} cannot be unmounted")
