"""Puts what a run trained where the package ships it. What enters: a run's folder. What leaves: src/bsq/models/NAME.

    python examples/bundle.py model runs/biscuit-s biscuit-s                    # encoder, decoder: model.safetensors
    python examples/bundle.py decoder:perceptual runs/perceptual biscuit-s      # a further decoder of its codes
    python examples/bundle.py generator runs/generator biscuit-s                # a generator of its codes

The weights are stored in half precision (they are computed with in float32), beside the run's log. Rounding changes a
few bits in ten thousand, and so the hash of the codes: train priors, decoders and generators for the model as it was
bundled. The card, README.md, is written by hand: it names the recipes, says where the data came from and what was
measured.
"""

import shutil
import sys
from pathlib import Path

import torch

from bsq.checkpoint import load
from bsq.checkpoint.decoders import save_decoder
from bsq.checkpoint.load import MODELS
from bsq.folders import CONFIG_FILE, WEIGHTS_FILE, write_tensors
from bsq.generate.folder import BUNDLED, load_generator, save_generator


def bundle(what: str, run: Path, name: str) -> Path:
    """The file or folder that was written; it was read back."""
    kind, _, decoder = what.partition(":")
    folder = MODELS / name
    match kind:
        case "model":
            folder.mkdir(parents=True, exist_ok=True)
            made, log = folder / WEIGHTS_FILE, folder / "training.jsonl"
            write_tensors(made, load(run / "model").state_dict(), torch.float16)
            shutil.copy(run / "model" / CONFIG_FILE, folder / CONFIG_FILE)
            load(folder)
        case "decoder" if decoder:
            trained = load(run / "model")
            if trained.code_hash != load(name).code_hash:
                sys.exit(f"{run} was trained on other codes than those of {name}")
            made, log = save_decoder(trained, folder, decoder, torch.float16), folder / f"training-{decoder}.jsonl"
            load(f"{name}:{decoder}")
        case "generator":
            made, log = folder / BUNDLED, folder / BUNDLED / "training.jsonl"
            generator = load_generator(run / "model")
            generator.check(load(name))
            card = generator.card.model_copy(update={"tokenizer": name})
            save_generator(made, generator.network, card, torch.float16)
            load_generator(name)
        case _:
            sys.exit(f"cannot bundle {what!r}: there are model, decoder:NAME and generator")
    shutil.copy(run / "log.jsonl", log)
    return made


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {sys.argv[0]} model|decoder:DECODER|generator RUN NAME")
    print(bundle(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
