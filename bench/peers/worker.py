# SPDX-License-Identifier: Apache-2.0
"""One rank of one comparison; run.py starts it under mpirun with a JSON text as its argument. The
ranks hold the tensors of one case once, and save the very same memory with allshard and with the
peer in turn. The main process appends one JSON line per save to the file `out`, so that what was
measured stays if a later save fails."""

import concurrent.futures
import json
import os
import shutil
import sys
import time
import traceback
import types

import mpi4py
mpi4py.rc.thread_level = "serialized"
from mpi4py import MPI  # noqa: E402

from common import Counters, Model, now, quiet_barrier  # noqa: E402
from writers import PEERS, Ours  # noqa: E402


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_durable(comm, peer, folder):
    """fsync of every file of the result, spread over the peer's processes and four threads of each,
    then of the folders."""
    if comm.rank == 0 or not peer.ONE_PROCESS:
        files = peer.finals(folder)
        if not peer.ONE_PROCESS:
            files = files[comm.rank::comm.size]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(fsync, files))
    quiet_barrier(comm)
    if comm.rank == 0:
        for at, _, _ in os.walk(folder):
            fsync(at)
        fsync(os.path.dirname(folder))


def clean(comm, folder, drop):
    """An empty folder, nothing left to write back, no file of it in memory."""
    if comm.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        os.sync()
        if drop:
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("1")
    quiet_barrier(comm)


def measure(comm, side, peer, folder, spec):
    """One save by all ranks: a record on the main process, None on the others."""
    clean(comm, folder, spec["drop_caches"])
    # All ranks begin at one moment, which none of them has to wait for in MPI.
    begin = comm.bcast(now() + 0.02 if comm.rank == 0 else None)
    counters = Counters()
    time.sleep(max(0.0, begin - now()))
    phases = peer.save(folder)
    shipped = now()
    counted = counters.result()
    quiet_barrier(comm)
    before_fsync = now()
    if spec["fsync"]:
        make_durable(comm, peer, folder)
    end = now()
    quiet_barrier(comm)
    faults = peer.check(folder)
    mine = {"shipped": shipped - begin, "phases": phases, "counted": counted, "faults": faults,
            "stats": peer.after() if side == "ours" else {}}
    quiet_barrier(comm)
    ranks = comm.gather(mine)
    if comm.rank != 0:
        return None
    shipped = max(r["shipped"] for r in ranks)
    total = {k: sum(r["counted"][k] for r in ranks) for k in ranks[0]["counted"]}
    # A file system without a device (tmpfs) is in wchar alone.
    total["written"] = total["write_bytes"] or total["wchar"]
    total["peak_above_max"] = max(r["counted"]["peak_above"] for r in ranks)
    record = {
        "side": side,
        "shipped_s": shipped,
        # allshard_save returns when the checkpoint is durable: an fsync after it proves that and is
        # no part of its time.
        "durable_s": shipped if side == "ours" else end - begin,
        "fsync_s": end - before_fsync,
        "phases": {k: max(r["phases"].get(k, 0.0) for r in ranks)
                   for k in sorted({k for r in ranks for k in r["phases"]})},
        "counted": total,
        "faults": [f"rank {i}: {fault}" for i, r in enumerate(ranks) for fault in r["faults"]][:20],
        "result_bytes": sum(os.path.getsize(f) for f in peer.finals(folder)),
        "disk_bytes": sum(os.path.getsize(os.path.join(at, f))
                          for at, _, files in os.walk(folder) for f in files),
    }
    if side == "ours" and ranks[0]["stats"]:
        stats = [r["stats"] for r in ranks]
        record["stats"] = {k: max(s[k] for s in stats) if k.endswith("_s") else
                           stats[0][k] if isinstance(v, str) else sum(s[k] for s in stats)
                           for k, v in stats[0].items()}
    return record


def main():
    spec = json.loads(sys.argv[1])
    comm = MPI.COMM_WORLD
    model = Model(spec["case"], spec["bytes"], comm.rank, comm.size, spec["shard_bytes"])
    ctx = types.SimpleNamespace(comm=comm, model=model, port=spec["port"],
                                library=spec["library"], ours=spec["ours"])
    sides = {}
    if "ours" in spec["sides"]:
        sides["ours"] = Ours(ctx)
    if "theirs" in spec["sides"]:
        sides["theirs"] = PEERS[spec["peer"]](ctx)
    quiet_barrier(comm)
    if comm.rank == 0:
        emit(spec, {"record": "model", "bytes": model.nbytes, "tensors": len(model.tensors),
                    "files": len(model.files), "ranks": comm.size,
                    "title": PEERS[spec["peer"]].TITLE, "note": PEERS[spec["peer"]].NOTE,
                    "mpi": MPI.Get_library_version().strip().split("\n")[0].split(",")[0]})
    for kind, count in (("first", spec["pairs"]), ("second", spec["second_pairs"])):
        for pair in range(count):
            for side, peer in sides.items():
                if kind == "first" or not peer.KEEPS_PLANS:
                    peer.fresh()
                folder = os.path.join(spec["folder"], side)
                record = measure(comm, side, peer, folder, spec)
                if comm.rank == 0:
                    emit(spec, {"record": "save", "kind": kind, "pair": pair, **record})
                    shutil.rmtree(folder)
    quiet_barrier(comm)
    for peer in sides.values():
        peer.close()
    quiet_barrier(comm)


def emit(spec, record):
    with open(spec["out"], "a") as f:
        f.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    try:
        main()
        # What torch and its threads do at the interpreter's end is not measured here.
        sys.stdout.flush()
        MPI.Finalize()
        os._exit(0)
    except BaseException:
        print(f"rank {MPI.COMM_WORLD.rank}:", traceback.format_exc(), file=sys.stderr, flush=True)
        MPI.COMM_WORLD.Abort(1)
