# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# needs: mpi
# processors: 2
"""The trainer of examples/train_gpt2: two runs are the same bit for bit, so are a run that went on
from a checkpoint and one that was not interrupted, and what other ranks load is what was saved."""

import json
import os
import pathlib
import signal
import subprocess
import unittest
import unittest.mock

import train_support
from train_support import Run, tensors_of

# Ranks, and those of one copy of the weights.
LAYOUTS = [(1, 1), (2, 2), (3, 1), (4, 2)]
if train_support.SANITIZED:
    LAYOUTS = LAYOUTS[1:2]


def ranks_of(launcher):
    """Processes that run the trainer among the descendants of a process."""
    parents = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            parents[int(folder.name)] = (int(rest.split()[1]), name.partition("(")[2])
        except OSError:
            continue  # it is gone
    found = []
    for process, (above, name) in parents.items():
        while above in parents and above != launcher:
            above = parents[above][0]
        if above == launcher and name == pathlib.Path(train_support.TRAINER).name[:15]:
            found.append(process)
    return sorted(found)


# The sanitizers look at the same code in the other tests.
plain_only = unittest.skipIf(train_support.SANITIZED, "with sanitizers the others are enough")


class Resume(train_support.Case):
    @plain_only
    def test_twice_the_same(self):
        a = self.train(4, "a", 8, tp=2)
        self.assertEqual(len(a.losses), 8)
        # Open MPI's plain algorithms in place of those that fit the machine: no sum is MPI's.
        with unittest.mock.patch.dict(os.environ, {"OMPI_MCA_coll": "basic,libnbc,self"}):
            b = self.train(4, "b", 8, tp=2)
        self.assertEqual(a.out, b.out)
        self.same_checkpoint("a/checkpoint-8", "b/checkpoint-8")

    @plain_only
    def test_it_learns_and_the_seed_counts(self):
        a = self.train(2, "a", 80)
        self.assertLess(float(a.losses["80"]), 0.7 * float(a.losses["1"]))
        b = self.train(2, "b", 1, "--seed", 2)
        self.assertNotEqual(a.losses["1"], b.losses["1"])
        self.assertNotEqual(a.began[0][4], b.began[0][4])

    def test_interrupted(self):
        for ranks, tp in LAYOUTS:
            with self.subTest(ranks=ranks, tp=tp):
                name = f"parts{ranks}"
                whole = self.train(ranks, f"whole{ranks}", 13, tp=tp)
                first = self.train(ranks, name, 6, "--every", 3, tp=tp)
                self.assertEqual(first.saved, ["3", "6"])
                rest = self.train(ranks, name, 13, "--every", 4, "--nonblocking", tp=tp)
                self.assertEqual(rest.began[0][:4], ("resumed", "6", "checkpoint-6", str(ranks)))
                self.assertEqual(rest.began[0][4], first.saving["6"])
                self.assertEqual(rest.saved, ["8", "12", "13"])
                self.assertEqual({**first.losses, **rest.losses}, whole.losses)
                self.assertEqual(len(rest.losses), 7)
                self.assertEqual(rest.final, whole.final)
                self.same_checkpoint(f"whole{ranks}/checkpoint-13", f"{name}/checkpoint-13")

    def test_other_ranks(self):
        layouts = [(4, 2), (2, 1), (3, 1), (8, 4), (1, 1), (6, 2)]
        if train_support.SANITIZED:
            layouts = layouts[:3]
        step, loss = 0, {}
        for i, (ranks, tp) in enumerate(layouts):
            with self.subTest(ranks=ranks, tp=tp):
                before = self.dir / f"root/checkpoint-{step}"
                kept = {p: tensors_of(before, p) for p in ("model", "optimizer")} if i else None
                run = self.train(ranks, "root", step + 5, "--save-first", tp=tp)
                if i:
                    self.assertEqual(run.began[0][:3], ("resumed", str(step), before.name))
                    self.assertEqual(run.began[0][3], str(layouts[i - 1][0]))
                    self.assertEqual(run.began[0][4], loss["sums"])
                    manifest = json.loads((before / "allshard.manifest.json").read_text())
                    self.assertEqual(manifest["checkpoint"]["world_size"], ranks)
                    self.assertAlmostEqual(manifest["checkpoint"]["metric"]["value"],
                                           float(loss["last"]), places=6)
                    # What was saved right after the resume, by the new ranks.
                    for part, tensors in kept.items():
                        self.assertEqual(tensors_of(before, part), tensors)
                step += 5
                self.assertEqual(list(run.losses), [str(step - 4 + j) for j in range(5)])
                self.assertEqual(run.final[0], (str(step), run.saving[str(step)]))
                loss = {"sums": run.final[0][1], "first": loss.get("first", run.losses.get("1")),
                        "last": run.losses[str(step)]}
        self.assertLess(float(loss["last"]), float(loss["first"]))

    @plain_only
    def test_the_beginning_is_the_same_on_all_ranks(self):
        sums = {self.train(ranks, f"r{ranks}", 0, tp=tp).began[0][4] for ranks, tp in LAYOUTS[-2:]}
        self.assertEqual(len(sums), 1)

    @plain_only
    def test_more_copies_than_sequences(self):
        self.train(3, "a", 3, "--batch", 2)
        b = self.train(3, "a", 6, "--batch", 2)
        self.assertEqual(b.final, self.train(3, "b", 6, "--batch", 2).final)

    def test_a_signal_to_one_rank(self):
        whole = self.train(3, "whole", 30)
        with subprocess.Popen(self.command(3, "root", 30, "--delay-ms", 100), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.environment()) as process:
            lines = []
            while not lines or not lines[-1].startswith("step 4 "):
                lines.append(process.stdout.readline())
                self.assertTrue(lines[-1], lines)
            ranks = ranks_of(process.pid)
            self.assertEqual(len(ranks), 3)
            os.kill(ranks[1], signal.SIGUSR2)
            out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 75, out + err)
        process.stdout, process.stderr = "".join(lines) + out, err
        first = Run(process)
        self.assertRegex(first.out, r"\nstopping at step \d+ because of signal\n")
        self.assertEqual(first.saved, [first.final[0][0]])
        self.assertLess(int(first.saved[0]), 30)
        rest = self.train(3, "root", 30)
        self.assertEqual({**first.losses, **rest.losses}, whole.losses)
        self.assertEqual(rest.final, whole.final)
        self.same_checkpoint("whole/checkpoint-30", "root/checkpoint-30")

    @plain_only
    def test_another_model_or_text(self):
        first = self.train(2, "root", 2)
        other = self.train(2, "root", 4, "--size", "small", status=1)
        self.assertRegex(other.err, r'tensor "transformer\..*" *: rank \d declares F32 ')
        self.assertEqual(other.losses, {})
        more = self.train(2, "root", 3, train_support.TEXTS[0])
        self.assertEqual(more.began[0][4], first.final[0][1])
        self.assertIn("checkpoint-2 learned from another text", more.err)

    @plain_only
    def test_damage_is_passed_over(self):
        first = self.train(2, "root", 9, "--every", 3)
        (self.dir / "root/checkpoint-9/optimizer.safetensors").unlink()
        rest = self.train(2, "root", 9, "--every", 3)
        self.assertEqual(rest.began[0][:4], ("resumed", "6", "checkpoint-6", "2"))
        self.assertIn("checkpoint-9 is passed over", rest.err)
        self.assertEqual({**first.losses, **rest.losses}, first.losses)
        self.assertEqual(rest.final, first.final)

    @plain_only
    def test_nothing_left_to_do(self):
        a = self.train(2, "root", 4)
        before = (self.dir / "root/checkpoint-4/model.safetensors").stat()
        b = self.train(2, "root", 4)
        self.assertEqual((b.losses, b.saving), ({}, {}))
        self.assertEqual(b.final, a.final)
        after = (self.dir / "root/checkpoint-4/model.safetensors").stat()
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))


class CommandLine(train_support.Case):
    def refuse(self, status, text, ranks, *words):
        done = subprocess.run([*train_support.MPIEXEC, train_support.COUNT_FLAG, str(ranks),
                               train_support.TRAINER, *map(str, words)], capture_output=True,
                              text=True, timeout=120, check=False, env=self.environment())
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(text, done.stderr)
        self.assertFalse((self.dir / "root").exists())

    def test_bad_words(self):
        root, text = ["--root", self.dir / "root"], train_support.TEXTS[0]
        self.refuse(2, "--root is missing", 1, text)
        self.refuse(2, "name a text", 1, *root)
        for option, word in (("--steps", "-1"), ("--tp", "2x"), ("--size", "huge"),
                             ("--every-s", "nan")):
            self.refuse(2, f'{option} does not take "{word}"', 1, *root, option, word, text)
        self.refuse(2, "--wrong", 1, *root, "--wrong", text)

    def test_what_does_not_fit(self):
        root, text = ["--root", self.dir / "root"], train_support.TEXTS[0]
        self.refuse(1, "a multiple of --tp", 3, *root, "--tp", "2", text)
        self.refuse(1, "4 attention heads", 3, *root, "--tp", "3", text)
        self.refuse(1, "nothing here", 1, *root, self.dir / "nothing here")
        (self.dir / "short").write_text("short")
        self.refuse(1, "at least 33 are needed", 2, *root, self.dir / "short")


if __name__ == "__main__":
    unittest.main(verbosity=2)
