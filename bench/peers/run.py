#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Saves the same tensors with allshard and with other writers in turn, and writes a table of the
times, bytes and memory: FILE (JSON), and beside it .md and .svg. README.md tells how to read it.

    ./run.py --setup                                     makes the Python environment, once
    ./run.py --build ../../build/release --out peers.json --size 2GiB --pairs 7
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import report

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEERS = ["hub", "dcp", "dcp-every-rank", "gather", "owner", "torch-checkpointing", "mpi-io", "hdf5"]
CASES = ["rows", "columns", "replicated", "many"]
NEEDS = {"hub": ["huggingface_hub"], "dcp": [], "dcp-every-rank": [], "gather": ["huggingface_hub"],
         "owner": ["safetensors"], "torch-checkpointing": ["torch_checkpointing"],
         "mpi-io": ["mpi4py"], "hdf5": ["h5py"]}
ALL_NEED = ["torch", "numpy", "mpi4py", "huggingface_hub", "safetensors"]
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SYSCALLS = "fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2"


def size(text):
    m = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", text)
    if not m or m.group(2).upper() not in UNITS:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 2GiB or 500MB")
    return int(float(m.group(1)) * UNITS[m.group(2).upper()])


def say(text):
    print(text, flush=True)


def choose(text, names, what):
    chosen = names if text == "all" else [t for t in text.split(",") if t]
    for c in chosen:
        if c not in names:
            sys.exit(f"{what} '{c}' is unknown: {', '.join(names)}")
    return chosen


# ------------------------------------------------------------------ the environment

def python_of(venv):
    return os.path.join(venv, "bin", "python3")


def can_import(python, module, extra=""):
    done = subprocess.run([python, "-c", f"import {module}{extra}"], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


def there(python, module):
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def setup(venv):
    """Makes the environment and says what could not be had. A package that cannot be installed
    costs its peer and nothing more."""
    if not os.path.exists(python_of(venv)):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = python_of(venv)
    pip = [python, "-m", "pip", "install", "--quiet"]
    with open(os.path.join(HERE, "requirements.txt")) as f:
        packages = [line.strip() for line in f if line.strip() and not line.startswith("#")]
    for package in packages:
        say(f"pip install {package}")
        if subprocess.run(pip + [package]).returncode != 0:
            say(f"  {package} could not be had")
    setup_h5py(python, pip)
    say("")
    for module in ALL_NEED + ["torch_checkpointing"]:
        good, why = can_import(python, module)
        say(f"{'ok  ' if good else 'none'} {module}{'' if good else ': ' + why}")
    good, why = can_import(python, "h5py", "; assert h5py.get_config().mpi, 'built without MPI'")
    say(f"{'ok  ' if good else 'none'} h5py with MPI{'' if good else ': ' + why}")


def setup_h5py(python, pip):
    """h5py's wheels know no MPI: it is built against the system's HDF5."""
    if can_import(python, "h5py", "; assert h5py.get_config().mpi")[0]:
        return

    def flag(kind):
        if not shutil.which("pkg-config"):
            return ""
        done = subprocess.run(["pkg-config", kind, "hdf5-openmpi"], capture_output=True, text=True)
        return done.stdout.split()[0][2:] if done.stdout.split() else ""

    libraries, headers = flag("--libs-only-L"), flag("--cflags-only-I")
    if not libraries or not headers or not shutil.which("mpicc"):
        say("no parallel HDF5 here (Debian: libhdf5-openmpi-dev): the peer hdf5 is left out")
        return
    say("h5py==3.16.0, built against the system's parallel HDF5 (minutes)")
    # Built with this environment's mpi4py, not with another that pip would compile for it.
    subprocess.run(pip + ["Cython==3.3.1", "pkgconfig==1.6.0", "setuptools", "wheel"])
    env = dict(os.environ, CC="mpicc", HDF5_MPI="ON", HDF5_LIBDIR=libraries,
               HDF5_INCLUDEDIR=headers, CFLAGS="-O1")
    subprocess.run(pip + ["--no-build-isolation", "--no-binary=h5py", "--no-deps", "--no-cache-dir",
                          "--force-reinstall", "h5py==3.16.0"], env=env)


def environment():
    """For mpirun on one machine: as root, more ranks than cores, ranks free to move, and waiting
    ranks that give way. One thread per rank in torch, as torchrun sets it."""
    env = dict(os.environ)
    for key, value in (("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                       ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
                       ("OMPI_MCA_hwloc_base_binding_policy", "none"),
                       ("OMPI_MCA_mpi_yield_when_idle", "1"), ("OMP_NUM_THREADS", "1"),
                       ("HF_HUB_OFFLINE", "1"), ("GLOO_SOCKET_IFNAME", "lo"),
                       ("PYTHONDONTWRITEBYTECODE", "1")):
        env.setdefault(key, value)
    return env


def machine(folder):
    def first(path, key):
        try:
            with open(path) as f:
                for line in f:
                    if line.startswith(key):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
        return ""

    fs = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", folder], capture_output=True,
                        text=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": first("/proc/cpuinfo", "model name"), "cores": os.cpu_count(),
            "memory_gib": round(memory / 2**30, 1),
            "kernel": platform.release(), "file_system": fs.stdout.strip(),
            "python": platform.python_version()}


def versions(python):
    names = ["torch", "safetensors", "huggingface_hub", "mpi4py", "torch-checkpointing", "h5py",
             "numpy"]
    code = ("import importlib.metadata as m, json\nr = {}\n"
            f"for n in {names!r}:\n"
            "    try: r[n] = m.version(n)\n"
            "    except m.PackageNotFoundError: pass\n"
            "print(json.dumps(r))")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}


# ------------------------------------------------------------------------ one launch

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(a, spec, before=()):
    """Runs the ranks of one comparison: (records so far, why it ended early or None)."""
    handle, out = tempfile.mkstemp(suffix=".jsonl")
    os.close(handle)
    spec = dict(spec, out=out, port=free_port())
    log = tempfile.TemporaryFile("w+")
    command = [*a.mpirun.split(), "-n", str(a.ranks), *before, python_of(a.venv),
               os.path.join(HERE, "worker.py"), json.dumps(spec)]
    env = environment()
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
    why = None
    try:
        process.wait(timeout=a.timeout)
    except subprocess.TimeoutExpired:
        why = f"no end after {a.timeout} s"
    finally:
        if process.poll() is None:
            # mpirun takes its ranks with it; what does not listen is ended with its session.
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    log.seek(0)
    text = log.read()
    if process.returncode != 0 and why is None:
        why = reason(text, process.returncode)
    with open(out) as f:
        records = [json.loads(line) for line in f if line.endswith("\n")]
    os.unlink(out)
    if a.verbose and text.strip():
        say(text)
    return records, why


def reason(text, status):
    """The line of a Python error among what mpirun and the ranks said."""
    lines = [line for line in text.splitlines()
             if re.match(r"[\w.]*(Error|Exception|Failed|Interrupt)\b", line)]
    if lines:
        return lines[0][:300]
    lines = [line for line in text.splitlines() if line.strip()]
    return f"exit status {status}: {lines[-1][:200] if lines else 'nothing was said'}"


def system_calls(a, spec, sides):
    """Counts of the calls that make files durable, on paths of the test folder, of one save each
    without the driver's own fsync: {side: {call: count}}. In a launch of its own, since tracing
    takes time."""
    if not shutil.which("strace") or a.no_strace:
        return {}
    result = {}
    for side in sides:
        with tempfile.TemporaryDirectory() as d:
            spec_side = dict(spec, sides=[side], pairs=1, second_pairs=0, fsync=False,
                             bytes=min(spec["bytes"], a.strace_size),
                             shard_bytes=min(spec["shard_bytes"], a.strace_size // 4))
            before = ["strace", "-f", "-ff", "-y", "-qq", "--seccomp-bpf", "-e",
                      f"trace={SYSCALLS}", "-e", "signal=none", "-o", os.path.join(d, "t")]
            records, why = launch(a, spec_side, before)
            if why or not any(r["record"] == "save" for r in records):
                result[side] = {"failed": why or "no save"}
                continue
            counts = {}
            # Each call names its path in <> (-y), renames in quotes.
            inside = os.path.join(spec["folder"], side)
            for name in os.listdir(d):
                with open(os.path.join(d, name), errors="replace") as f:
                    for line in f:
                        call = line.split("(", 1)[0]
                        if inside in line and call in SYSCALLS.split(","):
                            counts[call] = counts.get(call, 0) + 1
            result[side] = counts
    return result


# ------------------------------------------------------------------------- the driver

def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--setup", action="store_true", help="make the environment, then end")
    p.add_argument("--venv", default=os.path.join(ROOT, "build", "peers-venv"),
                   help="folder of the environment")
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"),
                   help="folder with liballshard.so")
    p.add_argument("--data", default=os.path.join(ROOT, "build", "peers-data"),
                   help="folder to save to, on the file system to be measured; its contents named "
                        "ours and theirs are removed")
    p.add_argument("--out", default="peers.json", help="the table; .md and .svg lie beside it")
    p.add_argument("--peers", default="all", help="comma-separated, of: " + ", ".join(PEERS))
    p.add_argument("--cases", default="rows,columns", help="of: " + ", ".join(CASES))
    p.add_argument("--size", type=size, default="256MiB", help="bytes of the tensors")
    p.add_argument("--shard-size", type=size, default=None,
                   help="largest file; a quarter of the size if not given")
    p.add_argument("--ranks", type=int, default=4)
    p.add_argument("--pairs", type=int, default=7, help="first saves by ours and theirs in turn")
    p.add_argument("--second-pairs", type=int, default=3,
                   help="saves of the unchanged tensors after them, plans kept")
    p.add_argument("--timeout", type=int, default=1800, help="seconds for one peer and case")
    p.add_argument("--engine", help="allshard's engine")
    p.add_argument("--align", type=int, default=0, help="allshard's alignment of data")
    p.add_argument("--checksum", default="default", help="allshard's checksum: xxh3 or none")
    p.add_argument("--keep-cache", action="store_true",
                   help="do not drop the page cache before each save (dropping needs root)")
    p.add_argument("--no-strace", action="store_true")
    p.add_argument("--strace-size", type=size, default="64MiB", help="bytes of the traced saves")
    p.add_argument("--resume", action="store_true",
                   help="leave out what FILE already holds with the same settings")
    p.add_argument("--mpirun", default="mpirun")
    p.add_argument("--verbose", action="store_true", help="show what the ranks print")
    return p.parse_args()


def save_results(a, results):
    """The three files, each replaced whole."""
    stem = a.out[:-5] if a.out.endswith(".json") else a.out
    for path, text in ((a.out, json.dumps(results, indent=1) + "\n"),
                       (stem + ".md", report.markdown(results)),
                       (stem + ".svg", report.svg(results))):
        with open(path + ".part", "w") as f:
            f.write(text)
        os.replace(path + ".part", path)


def compare(a, peer, case, library, ours_traced):
    spec = {"peer": peer, "case": case, "bytes": a.size, "shard_bytes": a.shard_size,
            "folder": a.data, "library": library, "sides": ["ours", "theirs"], "pairs": a.pairs,
            "second_pairs": a.second_pairs, "drop_caches": a.drop, "fsync": True,
            "ours": {"engine": a.engine, "align": a.align, "checksum": a.checksum}}
    for module in ALL_NEED + NEEDS[peer]:
        if not there(python_of(a.venv), module):
            return {"failed": f"{module} is not there; ./run.py --setup installs it"}
    records, why = launch(a, spec)
    entry = {"model": next((r for r in records if r["record"] == "model"), None),
             "saves": [r for r in records if r["record"] == "save"]}
    if why:
        entry["failed"] = why
    else:
        entry["calls"] = system_calls(a, spec, ["theirs"] if ours_traced else ["ours", "theirs"])
    for side in ("ours", "theirs"):
        shutil.rmtree(os.path.join(a.data, side), ignore_errors=True)
    return entry


def main():
    a = arguments()
    a.venv = os.path.abspath(a.venv)
    a.data = os.path.abspath(a.data)
    if a.setup:
        setup(a.venv)
        return 0
    if not os.path.exists(python_of(a.venv)):
        sys.exit(f"no environment in {a.venv}: run ./run.py --setup first, or give --venv")
    library = os.path.join(os.path.abspath(a.build), "liballshard.so")
    if not os.path.exists(library):
        sys.exit(f"no {library}: build allshard (./run build), or give --build")
    peers = choose(a.peers, PEERS, "peer")
    cases = choose(a.cases, CASES, "case")
    a.shard_size = a.shard_size or -(-a.size // 4)
    os.makedirs(a.data, exist_ok=True)
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    if shutil.disk_usage(a.data).free < 4 * a.size:
        sys.exit(f"{a.data} has not four times the {a.size} bytes free: DCP needs two, ours one")
    a.drop = not a.keep_cache and os.access("/proc/sys/vm/drop_caches", os.W_OK)
    settings = {"size": a.size, "shard_size": a.shard_size, "ranks": a.ranks, "pairs": a.pairs,
                "second_pairs": a.second_pairs, "engine": a.engine, "align": a.align,
                "checksum": a.checksum, "cache_dropped": a.drop}
    results = {"settings": settings, "results": {}}
    if a.resume and os.path.exists(a.out):
        with open(a.out) as f:
            old = json.load(f)
        if old["settings"] == settings:
            results = old
        else:
            sys.exit(f"{a.out} was made with other settings: give another --out, or no --resume")
    results["machine"] = machine(a.data)
    results["versions"] = versions(python_of(a.venv))
    results["date"] = datetime.date.today().isoformat()
    failures = 0
    for case in cases:
        for peer in peers:
            key = f"{peer} {case}"
            old = results["results"].get(key)
            if old is not None and "failed" not in old:
                say(f"{key}: as measured before")
                continue
            begin = time.monotonic()
            traced = any("ours" in e.get("calls", {}) for e in results["results"].values()
                         if e["case"] == case)
            entry = dict(compare(a, peer, case, library, traced), peer=peer, case=case)
            results["results"][key] = entry
            save_results(a, results)
            say(f"{key}: {report.line(entry)} ({time.monotonic() - begin:.0f} s)")
            failures += "failed" in entry or report.faults(entry) != []
    say(f"wrote {a.out} and beside it .md and .svg")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
