"""Puts a trained decoder beside the model it decodes for. What enters: a run. What leaves: models/NAME/decoder-*.

    python examples/bundle_decoder.py runs/perceptual biscuit-s perceptual

The weights are stored in half precision, beside the run's log. The model's card, README.md, has a part on its decoders,
which is written by hand.
"""

import shutil
import sys
from pathlib import Path

import torch

from bsq.checkpoint import load
from bsq.checkpoint.decoders import save_decoder
from bsq.checkpoint.load import MODELS


def bundle(run: Path, name: str, decoder: str) -> Path:
    path = save_decoder(load(run / "model"), MODELS / name, decoder, torch.float16)
    load(f"{name}:{decoder}")  # raises for a decoder of other codes
    shutil.copy(run / "log.jsonl", MODELS / name / f"training-{decoder}.jsonl")
    return path


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {sys.argv[0]} RUN NAME DECODER")
    print(bundle(Path(sys.argv[1]), *sys.argv[2:]))
