"""Puts a trained generator beside the tokenizer it ships with. What enters: a run. What leaves: models/NAME/generator.

    python examples/bundle_generator.py runs/generator biscuit-s

The weights are stored in half precision (they are computed with in float32), beside the run's log. The tokenizer's
card, README.md, has a part on its generator, which is written by hand.
"""

import shutil
import sys
from pathlib import Path

import torch

from bsq.checkpoint import load
from bsq.checkpoint.load import MODELS
from bsq.generate.folder import BUNDLED, load_generator, save_generator


def bundle(run: Path, name: str) -> Path:
    folder = MODELS / name / BUNDLED
    trained = load_generator(run / "model")
    trained.check(load(name))
    save_generator(folder, trained.network, trained.card.model_copy(update={"tokenizer": name}), torch.float16)
    shutil.copy(run / "log.jsonl", folder / "training.jsonl")
    load_generator(name)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} RUN NAME")
    print(bundle(Path(sys.argv[1]), sys.argv[2]))
