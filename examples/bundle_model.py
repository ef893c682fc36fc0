"""Puts a trained model where the package ships it. What enters: a run's folder. What leaves: src/bsq/models/NAME.

    python examples/bundle_model.py runs/biscuit-s biscuit-s

The weights are stored in half precision (they are computed with in float32), beside the run's log. The card, README.md,
is written by hand: it names the recipe, says where the data came from and what was measured.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bsq.checkpoint import load
from bsq.folders import CONFIG_FILE, WEIGHTS_FILE

MODELS = Path(__file__).parent.parent / "src" / "bsq" / "models"


def bundle(run: Path, name: str) -> Path:
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(run / "model" / WEIGHTS_FILE)
    halves = {key: tensor.half() if tensor.dtype == torch.float32 else tensor for key, tensor in tensors.items()}
    save_file(halves, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    shutil.copy(run / "model" / CONFIG_FILE, folder / CONFIG_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)
    shutil.copy(run / "log.jsonl", folder / "training.jsonl")
    load(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} RUN NAME")
    print(bundle(Path(sys.argv[1]), sys.argv[2]))
