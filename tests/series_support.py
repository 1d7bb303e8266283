# SPDX-License-Identifier: Apache-2.0
"""What the cli_series_*.py tests share: a root with checkpoints that the tool saved, and hand-made
records in their manifests."""

import json
import os
import pathlib
import random
import shutil
import subprocess

from tool_support import Case, Tensor, checkpoint, put

BUILD = pathlib.Path(os.environ.get("ALLSHARD_BUILD_DIR", "."))
SEAL = BUILD / "tests" / "tool_seal"
FAULTY = BUILD / "tests" / "tool_faulty"
NOW = "2026-01-31T12:00:00.000Z"


def tensors(seed):
    source = random.Random(seed)
    return [Tensor(f"layer.{i}.weight", "F32", [8, 16], source) for i in range(5)]


def record(step, **more):
    return {"step": step, "time": NOW, "save_seconds": 1.25, "world_size": 4, **more}


class Root(Case):
    """A root with checkpoints that the tool saved, and hand-made records in their manifests."""

    def setUp(self):
        super().setUp()
        self.root = self.dir / "runs"
        self.root.mkdir()
        self.source = put(self.dir / "source", checkpoint(tensors(1), 1200))
        self.template = self.dir / "template"
        self.run_tool("copy", self.source, self.template, "--max-shard-size", "1200")

    def save(self, name, record=None, root=None):
        """A whole checkpoint; with a record it is one of a series."""
        folder = (root or self.root) / name
        shutil.copytree(self.template, folder)
        if record is not None:
            self.edit(folder, lambda m: m.update(checkpoint=record))
        return folder

    def edit(self, folder, change):
        """Changes the manifest and gives it its checksum."""
        path = folder / "allshard.manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))
        subprocess.run([SEAL, path], check=True, timeout=60)

    def series(self, *steps, **more):
        return [self.save(f"checkpoint-{s}", record(s, **more)) for s in steps]

    def ls(self, *arguments, root=None, status=0):
        return self.run_json("ls", root or self.root, *arguments, status=status)

    def member(self, name, status=1):
        found = [c for c in self.ls(status=status)["checkpoints"] if c["name"] == name]
        self.assertEqual(len(found), 1, name)
        return found[0]

    def latest(self, *arguments, status=0):
        done = self.run_tool("latest", self.root, *arguments, status=status)
        return done.stdout.rstrip("\n"), done.stderr
