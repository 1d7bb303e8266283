# SPDX-License-Identifier: Apache-2.0
"""The peers, each a class with the same face:

    Peer(ctx)      once per process, outside every clock: imports, process groups, files that the
                   peer wants to know before
    fresh()        before a first save, outside the clock: forget plans and other memory of saves
    save(folder)   the save itself, on all ranks; returns {phase: seconds}. The clock runs.
    close()        collective, at the end
    finals(folder) the files of the result, that would have to be fsynced
    check(folder)  list of faults: what was written against this rank's memory
    ONE_PROCESS    only rank 0 works
    TITLE, NOTE    for the table; run.py reads them from the records

ctx: comm (mpi4py), model (common.Model), port, folder.
"""

import os

import torch

from common import check_safetensors, now, same_bits


class Peer:
    TITLE = ""
    ONE_PROCESS = False
    KEEPS_PLANS = True  # False: fresh() before second saves too
    NOTE = ""

    def __init__(self, ctx):
        self.ctx = ctx
        self.comm = ctx.comm
        self.model = ctx.model
        self.rank = ctx.comm.rank
        self.ranks = ctx.comm.size

    def fresh(self):
        pass

    def save(self, folder):
        raise NotImplementedError

    def close(self):
        pass

    def finals(self, folder):
        return sorted(os.path.join(folder, f) for f in os.listdir(folder)
                      if os.path.isfile(os.path.join(folder, f)))

    def check(self, folder):
        return check_safetensors(self.model, folder)


class Ours(Peer):
    TITLE = "allshard"

    def __init__(self, ctx):
        super().__init__(ctx)
        import allshard_ctypes
        self.module = allshard_ctypes
        self.lib = allshard_ctypes.load(ctx.library)
        self.handle = None

    def close(self):
        if self.handle is not None:
            self.handle.close()
            self.handle = None

    def fresh(self):
        self.close()
        self.handle = self.module.Allshard(self.lib, self.comm, self.model)

    def save(self, folder):
        self.handle.save(folder, self.model.shard_bytes, **self.ctx.ours)
        return {}

    def after(self):
        return self.handle.stats()


class Hub(Peer):
    TITLE = "huggingface_hub, one process"
    ONE_PROCESS = True
    NOTE = "One process that holds the whole model; never calls fsync."

    def __init__(self, ctx):
        super().__init__(ctx)
        if self.rank == 0:
            from huggingface_hub import save_torch_state_dict
            self.call = save_torch_state_dict
            self.state = self.model.whole()

    def save(self, folder):
        if self.rank == 0:
            self.call(self.state, folder, max_shard_size=self.model.shard_bytes)
        return {}


def gloo(ctx):
    """The default process group of torch, over gloo, once."""
    import torch.distributed as dist
    if not dist.is_initialized():
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{ctx.port}",
                                rank=ctx.comm.rank, world_size=ctx.comm.size)
    return dist


def dtensors(ctx):
    """The rank's pieces as DTensors, sharing their memory."""
    gloo(ctx)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard
    mesh = init_device_mesh("cpu", (ctx.comm.size,))
    state = {}
    for t in ctx.model.tensors:
        stride = (t.shape[1], 1) if len(t.shape) == 2 else (1,)
        placement = Replicate() if t.dim is None else Shard(t.dim)
        state[t.name] = DTensor.from_local(ctx.model.local[t.name], mesh, [placement],
                                           run_check=False, shape=torch.Size(t.shape),
                                           stride=stride)
    return state


class Dcp(Peer):
    TITLE = "torch DCP, consolidation on rank 0"
    NOTE = ("HuggingFaceStorageWriter. It fsyncs its intermediate files, not the result; "
            "5 threads for the consolidation; what is left in sharded/ stays there.")
    EVERY_RANK = False

    def __init__(self, ctx):
        super().__init__(ctx)
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.planner import SavePlanner
        self.dcp = dcp
        self.planner = SavePlanner
        self.state = dtensors(ctx)
        self.numbers = ctx.model.file_numbers()

    def fresh(self):
        # The plans that DCP keeps from save to save lie in dictionaries of the class.
        for name in dir(self.planner):
            if name.startswith("_cached") and isinstance(getattr(self.planner, name), dict):
                getattr(self.planner, name).clear()

    def save(self, folder):
        path = os.path.join(folder, "sharded") if self.EVERY_RANK else folder
        writer = self.dcp.HuggingFaceStorageWriter(
            path=path, fqn_to_index_mapping=self.numbers, save_distributed=True,
            enable_consolidation=not self.EVERY_RANK, thread_count_consolidation=5)
        planner = self.dcp.DefaultSavePlanner(enable_plan_caching=True)
        self.dcp.save(self.state, storage_writer=writer, planner=planner)
        return {}


class DcpEveryRank(Dcp):
    TITLE = "torch DCP, consolidation on every rank"
    NOTE = ("HuggingFaceStorageWriter, then consolidate_safetensors_files_on_every_rank. It fsyncs "
            "its intermediate files, not the result; 5 threads per rank.")
    EVERY_RANK = True

    def save(self, folder):
        from torch.distributed.checkpoint._consolidate_hf_safetensors import (
            consolidate_safetensors_files_on_every_rank)
        begin = now()
        super().save(folder)
        middle = now()
        consolidate_safetensors_files_on_every_rank(
            input_dir=os.path.join(folder, "sharded"), output_dir=folder,
            fqn_to_index_mapping=self.numbers, num_threads=5)
        return {"sharded files": middle - begin, "consolidation": now() - middle}


class Gather(Peer):
    TITLE = "gather to rank 0, then huggingface_hub"
    NOTE = ("Each part goes straight to rank 0 over gloo (less than FSDP's FULL_STATE_DICT moves, "
            "which gathers on every rank), then save_torch_state_dict; never calls fsync.")

    def __init__(self, ctx):
        super().__init__(ctx)
        self.dist = gloo(ctx)
        from huggingface_hub import save_torch_state_dict
        self.call = save_torch_state_dict

    def save(self, folder):
        begin = now()
        state = gather(self.dist, self.model) if self.rank == 0 else send(self.dist, self.model)
        middle = now()
        if self.rank == 0:
            self.call(state, folder, max_shard_size=self.model.shard_bytes)
            return {"gather": middle - begin, "save": now() - middle}
        return {}


def send(dist, model):
    waiting = []
    for i, t in enumerate(model.tensors):
        if t.dim is not None and model.local[t.name].numel() != 0:
            part = model.local[t.name].reshape(-1).view(torch.uint8)
            waiting.append(dist.isend(part, 0, tag=i))
            if len(waiting) == 8:
                waiting.pop(0).wait()
    for w in waiting:
        w.wait()


def gather(dist, model):
    """All tensors whole, in memory that is new for every save, as a gathered state dict is."""
    state = {}
    for i, t in enumerate(model.tensors):
        if t.dim is None:
            state[t.name] = model.local[t.name]
            continue
        whole = torch.empty(t.shape, dtype=torch.bfloat16)
        waiting = []
        for r in range(1, model.ranks):
            offset, shape = t.piece(r, model.ranks)
            if 0 in shape:
                continue
            box = whole.narrow(t.dim, offset[t.dim], shape[t.dim])
            # Rows of the whole are one run of memory; columns come in a buffer of their own.
            into = box if box.is_contiguous() else torch.empty(shape, dtype=torch.bfloat16)
            waiting.append((dist.irecv(into.view(-1).view(torch.uint8), r, tag=i), into, box))
        whole.narrow(t.dim, 0, model.local[t.name].shape[t.dim]).copy_(model.local[t.name])
        for work, into, box in waiting:
            work.wait()
            if into is not box:
                box.copy_(into)
        state[t.name] = whole
    return state


class Owner(Peer):
    TITLE = "whole tensors to owners, then safetensors"
    NOTE = ("mpi4py and safetensors.torch.save_file: file f is assembled and written by rank "
            "f modulo ranks, one file at a time on each; never calls fsync.")

    def save(self, folder):
        from mpi4py import MPI
        from safetensors.torch import save_file
        model = self.model
        moved = 0.0
        for first in range(0, len(model.files), self.ranks):
            begin = now()
            requests, shard, copies = [], {}, []
            for owner, file in enumerate(model.files[first:first + self.ranks]):
                for name in model.names_of[file]:
                    t = model.tensors[model.index[name]]
                    if owner == self.rank:
                        shard[name] = self.receive(MPI, t, requests, copies)
                    elif t.dim is not None and model.local[name].numel() != 0:
                        requests.append(self.comm.Isend([self.bytes_of(model.local[name]),
                                                         MPI.BYTE], owner, model.index[name]))
            MPI.Request.Waitall(requests)
            for box, part in copies:
                box.copy_(part)
            moved += now() - begin
            if shard:
                save_file(shard, os.path.join(folder, model.files[first + self.rank]),
                          metadata={"format": "pt"})
        if self.rank == 0:
            model.write_index(folder)
        return {"exchange": moved}

    @staticmethod
    def bytes_of(tensor):
        return tensor.view(-1).view(torch.uint8).numpy()

    def receive(self, MPI, t, requests, copies):
        model = self.model
        if t.dim is None:
            return model.local[t.name]
        whole = torch.empty(t.shape, dtype=torch.bfloat16)
        for r in range(self.ranks):
            offset, shape = t.piece(r, self.ranks)
            if 0 in shape:
                continue
            box = whole.narrow(t.dim, offset[t.dim], shape[t.dim])
            if r == self.rank:
                copies.append((box, model.local[t.name]))
                continue
            into = box if box.is_contiguous() else torch.empty(shape, dtype=torch.bfloat16)
            if into is not box:
                copies.append((box, into))
            requests.append(self.comm.Irecv([self.bytes_of(into), MPI.BYTE], r,
                                            model.index[t.name]))
        return whole


class TorchCheckpointing(Peer):
    TITLE = "torch_checkpointing, consolidated"
    NOTE = ("Synchronous saver with the safetensors layout, then "
            "consolidate_hf_safetensors_checkpoint on all ranks; never calls fsync. Two changes "
            "make it run here: its gather of metadata, which asks for CUDA, is replaced by torch's "
            "all_gather_object, and its O_DIRECT, which ext4 refuses for its unaligned writes, is "
            "off. Its synchronous saver writes no metadata with a second save, which then cannot "
            "be consolidated: every save has a new manager.")
    KEEPS_PLANS = False

    def __init__(self, ctx):
        super().__init__(ctx)
        self.state = dtensors(ctx)
        self.dist = gloo(ctx)
        self.numbers = ctx.model.file_numbers()
        self.manager = None
        from torch_checkpointing.metadata_manager import DefaultMetadataManager
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig
        self.storage = LocalFileSystemStorageConfig(use_direct_io=False)
        DefaultMetadataManager._all_gather_pickled_data = self.all_gather

    def close(self):
        if self.manager is not None:
            self.manager.close()
            self.manager = None

    @staticmethod
    def all_gather(_manager, data, process_group=None):
        import torch.distributed as dist
        result = [None] * dist.get_world_size(process_group)
        dist.all_gather_object(result, data, group=process_group)
        return dict(enumerate(result))

    def fresh(self):
        from torch_checkpointing import CheckpointManager, ItemSpec
        from torch_checkpointing.checkpoint_layout import LayoutInfo, SafetensorsSerialization
        from torch_checkpointing.config import SyncCheckpointSaverConfig
        from torch_checkpointing.default_resharder import DefaultResharder
        self.close()
        layout = LayoutInfo("model_{rank}.safetensors", SafetensorsSerialization())
        self.manager = CheckpointManager(CheckpointManager.Config(
            items={"model": ItemSpec(layout=layout, resharder=DefaultResharder())},
            save=SyncCheckpointSaverConfig(), storage_config=self.storage))

    def save(self, folder):
        from torch_checkpointing.hf.consolidation import consolidate_hf_safetensors_checkpoint
        begin = now()
        parts = os.path.join(folder, "parts")
        self.manager.save(parts, {"model": self.state})
        self.dist.barrier()  # rank 0 publishes the folder after the others have returned
        middle = now()
        consolidate_hf_safetensors_checkpoint(parts, output_dir=folder,
                                              fqn_to_index_mapping=self.numbers,
                                              storage_config=self.storage)
        return {"parts": middle - begin, "consolidation": now() - middle}


class MpiIo(Peer):
    TITLE = "MPI-IO, collective write"
    NOTE = ("mpi4py, MPI.File with a view of each file's bytes and one Write_at_all per file; the "
            "same final bytes; as shipped without MPI_File_sync.")

    def save(self, folder):
        from mpi4py import MPI
        for file in self.model.files:
            head, begin, size = self.model.header(file)
            handle = MPI.File.Open(self.comm, os.path.join(folder, file),
                                   MPI.MODE_CREATE | MPI.MODE_WRONLY)
            handle.Set_size(size)
            self.write(MPI, handle, file, head, begin)
            handle.Close()
        if self.rank == 0:
            self.model.write_index(folder)
        return {}

    def write(self, MPI, handle, file, head, begin):
        """The header and this rank's parts of all tensors of the file, in one call."""
        if self.rank == 0:
            buffer = bytearray(head)
            boxes, places, memory, lengths = [MPI.BYTE.Create_contiguous(len(head))], [0], \
                [MPI.Get_address(buffer)], [len(head)]
        else:
            boxes, places, memory, lengths = [], [], [], []
        for name in sorted(self.model.names_of[file]):
            i = self.model.index[name]
            t = self.model.tensors[i]
            offset, shape = t.piece(self.rank, self.ranks)
            if t.dim is None and i % self.ranks != self.rank or 0 in shape:
                continue
            local = self.model.local[name]
            boxes.append(MPI.BYTE.Create_subarray(list(t.shape[:-1]) + [2 * t.shape[-1]],
                                                  list(shape[:-1]) + [2 * shape[-1]],
                                                  list(offset[:-1]) + [2 * offset[-1]]))
            places.append(begin[name])
            memory.append(local.data_ptr())
            lengths.append(2 * local.numel())
        view = MPI.Datatype.Create_struct([1] * len(boxes), places, boxes) if boxes else MPI.BYTE
        pieces = MPI.Datatype.Create_hindexed(MPI.BYTE, lengths, memory) if boxes else MPI.BYTE
        if boxes:
            view.Commit()
            pieces.Commit()
        handle.Set_view(0, MPI.BYTE, view, "native")
        handle.Write_at_all(0, [MPI.BOTTOM, 1 if boxes else 0, pieces])
        if boxes:
            view.Free()
            pieces.Free()
        for box in boxes:
            box.Free()


class Hdf5(Peer):
    TITLE = "parallel HDF5, collective write"
    NOTE = ("h5py on an HDF5 with MPI: one file, one data set per tensor, written collectively "
            "(bf16 as 16-bit integers); not a Hugging Face checkpoint; never calls fsync.")

    def __init__(self, ctx):
        super().__init__(ctx)
        import h5py
        if not h5py.get_config().mpi:
            raise RuntimeError("this h5py was built without MPI: see README.md")
        self.h5py = h5py

    def save(self, folder):
        h5 = self.h5py
        with h5.File(os.path.join(folder, "model.h5"), "w", driver="mpio", comm=self.comm,
                     libver="latest") as f:
            for i, t in enumerate(self.model.tensors):
                make = h5.h5p.create(h5.h5p.DATASET_CREATE)
                make.set_fill_time(h5.h5d.FILL_TIME_NEVER)
                make.set_alloc_time(h5.h5d.ALLOC_TIME_EARLY)
                space = h5.h5s.create_simple(t.shape)
                data = h5.Dataset(h5.h5d.create(f.id, t.name.encode(), h5.h5t.NATIVE_UINT16, space,
                                                make))
                self.write(data, i, t)
        return {}

    def write(self, data, i, t):
        offset, shape = t.piece(self.rank, self.ranks)
        box = tuple(slice(o, o + s) for o, s in zip(offset, shape))
        local = self.model.local[t.name].view(torch.int16).numpy().view("uint16")
        if t.dim is not None:
            with data.collective:
                data[box] = local
        elif i % self.ranks == self.rank:
            data[box] = local

    def check(self, folder):
        faults = []
        with self.h5py.File(os.path.join(folder, "model.h5"), "r") as f:
            if set(f) != set(self.model.index):
                return ["names differ"]
            for t in self.model.mine_to_check():
                offset, shape = t.piece(self.rank, self.ranks)
                box = tuple(slice(o, o + s) for o, s in zip(offset, shape))
                part = torch.from_numpy(f[t.name][box].view("int16"))
                if not same_bits(part, self.model.local[t.name].view(torch.int16)):
                    faults.append(f"{t.name}: bits differ")
        return faults


PEERS = {"hub": Hub, "dcp": Dcp, "dcp-every-rank": DcpEveryRank, "gather": Gather, "owner": Owner,
         "torch-checkpointing": TorchCheckpointing, "mpi-io": MpiIo, "hdf5": Hdf5}
