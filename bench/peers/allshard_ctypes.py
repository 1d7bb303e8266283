# SPDX-License-Identifier: Apache-2.0
"""A thin ctypes wrapper of liballshard.so: as much of include/allshard.h as a save needs."""

import ctypes as C

BF16 = 15
CHECKSUMS = {"default": 0, "none": 1, "xxh3": 2}


class TensorStruct(C.Structure):
    _fields_ = [
        ("size", C.c_size_t), ("name", C.c_char_p), ("dtype", C.c_int32), ("ndim", C.c_int32),
        ("shape", C.POINTER(C.c_int64)), ("offset", C.POINTER(C.c_int64)),
        ("local_shape", C.POINTER(C.c_int64)), ("flat", C.c_int32), ("reserved", C.c_int32),
        ("flat_offset", C.c_int64), ("flat_count", C.c_int64), ("strides", C.POINTER(C.c_int64)),
        ("data", C.c_void_p), ("order", C.c_int64), ("storage", C.c_uint64),
        ("storage_bytes", C.c_int64), ("storage_offset", C.c_int64), ("stored_dtype", C.c_int32),
        ("reserved_2", C.c_int32),
    ]


class ErrorStruct(C.Structure):
    _fields_ = [("size", C.c_size_t), ("code", C.c_int32), ("sys_errno", C.c_int32),
                ("rank", C.c_int32), ("reserved", C.c_int32), ("host", C.c_char_p),
                ("text", C.c_char_p)]


class SaveOptions(C.Structure):
    _fields_ = [
        ("size", C.c_size_t), ("max_shard_size", C.c_char_p), ("pattern", C.c_char_p),
        ("discard", C.POINTER(C.c_char_p)), ("discard_count", C.c_size_t), ("mode", C.c_int32),
        ("reserved", C.c_int32), ("block_bytes", C.c_int64), ("engine", C.c_char_p),
        ("align", C.c_int64), ("checksum", C.c_int32), ("writers_per_node", C.c_int32),
        ("creators", C.c_int32), ("stripe_count", C.c_int32), ("stripe_bytes", C.c_int64),
    ]


SECONDS = ("plan_s", "begin_s", "transfer_s", "commit_s", "clean_s", "durable_s", "total_s",
           "copy_s", "checksum_s", "io_s", "sync_s", "wait_s")
AMOUNTS = ("bytes_written", "bytes_read", "bytes_direct", "bytes_sent", "bytes_shared",
           "bytes_checksum", "messages", "operations", "memory", "plan_steps")


class Stats(C.Structure):
    _fields_ = ([("size", C.c_size_t), ("operation", C.c_int32), ("rank", C.c_int32),
                 ("ranks", C.c_int32), ("plan_cached", C.c_int32)] +
                [(name, C.c_double) for name in SECONDS] +
                [(name, C.c_int64) for name in AMOUNTS] +
                [("engine", C.c_char_p), ("engine_reason", C.c_char_p)])


class Failed(RuntimeError):
    pass


def load(path):
    lib = C.CDLL(path, mode=C.RTLD_GLOBAL)
    p = C.c_void_p
    lib.allshard_open_f.argtypes = [C.POINTER(p), C.c_int, p]
    lib.allshard_close.argtypes = [p]
    lib.allshard_last_error.argtypes = [p, C.POINTER(ErrorStruct)]
    lib.allshard_state_create.argtypes = [C.POINTER(p), p, C.c_char_p]
    lib.allshard_state_tensor.argtypes = [p, C.POINTER(TensorStruct)]
    lib.allshard_state_meta.argtypes = [p, C.c_char_p, C.c_char_p]
    lib.allshard_state_free.argtypes = [p]
    lib.allshard_save.argtypes = [p, C.c_char_p, C.POINTER(SaveOptions)]
    if hasattr(lib, "allshard_get_stats"):
        lib.allshard_get_stats.argtypes = [p, C.c_int, C.POINTER(Stats)]
    lib.allshard_version.restype = C.c_char_p
    return lib


def longs(values):
    return (C.c_int64 * max(1, len(values)))(*values)


class Allshard:
    """A context with one state that declares this rank's pieces in torch's memory."""

    def __init__(self, lib, comm, model):
        self.lib = lib
        self.rank = model.rank
        self.handle = C.c_void_p()
        self.state = C.c_void_p()
        code = lib.allshard_open_f(C.byref(self.handle), comm.py2f(), None)
        if code != 0:
            raise Failed(f"allshard_open_f returned {code}")
        self.ok(lib.allshard_state_create(C.byref(self.state), self.handle, b"model"))
        for i, t in enumerate(model.tensors):
            offset, shape = t.piece(model.rank, model.ranks)
            local = model.local[t.name]
            piece = TensorStruct(size=C.sizeof(TensorStruct), name=t.name.encode(), dtype=BF16,
                                 ndim=len(t.shape), shape=longs(t.shape), offset=longs(offset),
                                 local_shape=longs(shape), data=local.data_ptr(), order=i + 1)
            self.ok(lib.allshard_state_tensor(self.state, C.byref(piece)))

    def ok(self, code):
        if code != 0:
            error = ErrorStruct(size=C.sizeof(ErrorStruct))
            self.lib.allshard_last_error(self.handle, C.byref(error))
            raise Failed((error.text or b"").decode(errors="replace") or f"code {code}")

    def save(self, folder, shard_bytes, engine=None, align=0, checksum="default", block=0,
             writers=0):
        options = SaveOptions(size=C.sizeof(SaveOptions), max_shard_size=str(shard_bytes).encode(),
                              engine=engine.encode() if engine else None, align=align,
                              checksum=CHECKSUMS[checksum], block_bytes=block,
                              writers_per_node=writers)
        self.ok(self.lib.allshard_save(self.state, folder.encode(), C.byref(options)))

    def stats(self):
        """What this rank did in the last save; empty where the library does not tell."""
        s = Stats(size=C.sizeof(Stats))
        if (not hasattr(self.lib, "allshard_get_stats") or
                self.lib.allshard_get_stats(self.handle, self.rank, C.byref(s)) != 0):
            return {}
        result = {name: getattr(s, name) for name in SECONDS + AMOUNTS}
        result["plan_cached"] = s.plan_cached
        result["engine"] = (s.engine or b"").decode()
        result["engine_reason"] = (s.engine_reason or b"").decode()
        return result

    def close(self):
        self.lib.allshard_state_free(self.state)
        self.lib.allshard_close(self.handle)
