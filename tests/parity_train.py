# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# sanitize: no
# needs: mpi
# processors: 2
"""What the trainer of examples/train_gpt2 saves is Hugging Face's GPT-2: a forward pass in NumPy,
written from the model's description, reads the folder with the safetensors package and computes the
trainer's logits to 1e-4; names, shapes, config and tokenizer files are as they should be."""

import json
import unittest

import numpy
from safetensors import safe_open

import train_support


def load(folder):
    """All tensors of the part "model", in one file or several."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    found = {}
    for name in names:
        with safe_open(folder / name, framework="numpy") as f:
            found.update({key: f.get_tensor(key) for key in f.keys()})
    return found, len(names)


def norm(x, w, name, epsilon):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / numpy.sqrt(var + epsilon) * w[name + ".weight"] + w[name + ".bias"]


def gelu(x):
    return 0.5 * x * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (x + 0.044715 * x ** 3)))


def forward(w, config, tokens):
    """Logits, in doubles."""
    w = {k: v.astype(numpy.float64) for k, v in w.items()}
    heads, epsilon, n = config["n_head"], config["layer_norm_epsilon"], len(tokens)
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:n]
    future = numpy.triu(numpy.full((n, n), -numpy.inf), 1)
    for layer in range(config["n_layer"]):
        h = f"transformer.h.{layer}."

        def linear(name, value):
            return value @ w[h + name + ".weight"] + w[h + name + ".bias"]

        q, k, v = (t.reshape(n, heads, -1).transpose(1, 0, 2) for t in
                   numpy.split(linear("attn.c_attn", norm(x, w, h + "ln_1", epsilon)), 3, -1))
        scores = q @ k.transpose(0, 2, 1) / numpy.sqrt(q.shape[-1]) + future
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        mixed = scores / scores.sum(-1, keepdims=True) @ v
        x = x + linear("attn.c_proj", mixed.transpose(1, 0, 2).reshape(n, -1))
        x = x + linear("mlp.c_proj", gelu(linear("mlp.c_fc", norm(x, w, h + "ln_2", epsilon))))
    return norm(x, w, "transformer.ln_f", epsilon) @ w["transformer.wte.weight"].T


def expected_shapes(config):
    width = config["n_embd"]
    shapes = {"transformer.wte.weight": (config["vocab_size"], width),
              "transformer.wpe.weight": (config["n_positions"], width),
              "transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,)}
    for layer in range(config["n_layer"]):
        h = f"transformer.h.{layer}."
        for name in ("ln_1", "ln_2"):
            shapes[h + name + ".weight"] = shapes[h + name + ".bias"] = (width,)
        for name, rows, columns in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1),
                                    ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)):
            shapes[h + name + ".weight"] = (rows * width, columns * width)
            shapes[h + name + ".bias"] = (columns * width,)
    return shapes


class Parity(train_support.Case):
    def check(self, root, step):
        folder = self.dir / root / f"checkpoint-{step}"
        weights, files = load(folder)
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual({k: v.shape for k, v in weights.items()}, expected_shapes(config))
        self.assertTrue(all(v.dtype == numpy.float32 for v in weights.values()))
        with open(train_support.TEXTS[0], "rb") as f:
            tokens = list(f.read(config["n_positions"]))
        got = numpy.fromfile(self.dir / "logits", dtype=numpy.float32)
        wanted = forward(weights, config, tokens)
        error = numpy.abs(got.reshape(wanted.shape) - wanted).max()
        self.assertLess(error, 1e-4)
        self.assertGreater(numpy.abs(wanted).max(), 0.5)  # it has learned something
        print(f"{root}: {len(weights)} tensors in {files} files, logits up to "
              f"{numpy.abs(wanted).max():.2f}, off by {error:.1e} at the most")
        return files

    def test_one_rank(self):
        self.train(1, "one", 40, "--logits", self.dir / "logits")
        self.assertEqual(self.check("one", 40), 1)

    def test_parts_of_tensors_and_several_files(self):
        self.train(4, "parts", 40, "--logits", self.dir / "logits", "--max-shard-size", "50KB",
                   tp=2)
        self.assertGreater(self.check("parts", 40), 2)

    def test_after_a_resume_on_other_ranks(self):
        self.train(2, "root", 20, tp=2)
        self.train(3, "root", 40, "--logits", self.dir / "logits")
        self.check("root", 40)

    def test_small(self):
        self.train(2, "small", 3, "--size", "small", "--logits", self.dir / "logits", tp=2)
        self.check("small", 3)

    def test_tokenizer(self):
        self.train(2, "root", 0)
        folder = self.dir / "root/checkpoint-0"
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self.assertEqual(sorted(vocabulary.values()), list(range(257)))
        self.assertEqual(vocabulary["<|endoftext|>"], 256)
        # What GPT-2's tokenizer makes of a byte: itself if printable in Latin-1, else the next from
        # 256 on.
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in printable]
        for b in range(256):
            name = chr(b) if b in printable else chr(256 + others.index(b))
            self.assertEqual(vocabulary[name], b)
        self.assertEqual((folder / "merges.txt").read_text(), "#version: 0.2\n")
        config = json.loads((folder / "tokenizer_config.json").read_text())
        self.assertEqual(config["tokenizer_class"], "GPT2Tokenizer")
        model = json.loads((folder / "config.json").read_text())
        self.assertEqual((model["model_type"], model["vocab_size"], model["eos_token_id"]),
                         ("gpt2", 257, 256))


if __name__ == "__main__":
    unittest.main(verbosity=2)
