# SPDX-License-Identifier: Apache-2.0
# timeout: 600
# needs: mpi
# processors: 2
"""transformers opens what the trainer of examples/train_gpt2 saves, as GPT2LMHeadModel with its
tokenizer, and computes the trainer's logits to 1e-4."""

import os
import unittest

os.environ["HF_HUB_OFFLINE"] = "1" # all that is needed lies in the folder

import numpy
import torch
import transformers

import train_support

SENTENCES = ["The ranks agree.", "  two  spaces\n\ttab ", "naïve – “quotes” 🙂 ü",
             "\0 \x7f \u00a0 \u00ad", "don't we'll 3.14e-5 a_b"]


class Torch(train_support.Case):
    @classmethod
    def setUpClass(cls):
        print(f"torch {torch.__version__}, transformers {transformers.__version__}")

    def open(self, ranks, steps, *options, tp=1):
        """A run's checkpoint as transformers sees it, and its logits."""
        self.train(ranks, "root", steps, "--logits", self.dir / "logits", *options, tp=tp)
        folder = str(self.dir / f"root/checkpoint-{steps}")
        model, told = transformers.GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            self.assertFalse(told[what], what)
        return folder, model.eval(), numpy.fromfile(self.dir / "logits", dtype=numpy.float32)

    def check_logits(self, model, got):
        with open(train_support.TEXTS[0], "rb") as f:
            tokens = torch.tensor([list(f.read(model.config.n_positions))])
        with torch.no_grad():
            wanted = model(tokens).logits[0].numpy()
        error = numpy.abs(got.reshape(wanted.shape) - wanted).max()
        print(f"logits up to {numpy.abs(wanted).max():.2f}, off by {error:.1e} at the most")
        self.assertLess(error, 1e-4)

    def test_logits(self):
        for ranks, tp, options in ((1, 1, []), (4, 2, ["--max-shard-size", "50KB"]),
                                   (2, 2, ["--size", "small"])):
            with self.subTest(ranks=ranks, tp=tp, options=options):
                self.new_folder()
                _, model, logits = self.open(ranks, 20, *options, tp=tp)
                self.check_logits(model, logits)

    def test_tied(self):
        _, model, _ = self.open(2, 2)
        self.assertEqual(model.lm_head.weight.data_ptr(), model.transformer.wte.weight.data_ptr())

    def test_tokenizer(self):
        folder, model, _ = self.open(2, 10, tp=2)
        for kind in (transformers.GPT2Tokenizer, transformers.AutoTokenizer):
            tokenizer = kind.from_pretrained(folder)
            for text in SENTENCES:
                ids = tokenizer.encode(text)
                self.assertEqual(ids, list(text.encode()))
                self.assertEqual(tokenizer.decode(ids, clean_up_tokenization_spaces=False), text)
            self.assertEqual(tokenizer.encode("a<|endoftext|>b"), [97, 256, 98])
            self.assertEqual((len(tokenizer), tokenizer.eos_token_id), (257, 256))
            words = tokenizer("The ", return_tensors="pt")
            made = model.generate(**words, max_new_tokens=8, do_sample=False)
            self.assertGreater(made.shape[1], 4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
