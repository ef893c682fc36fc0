"""Draws what a generator does: new pictures, their nearest neighbours, restored halves, and a law known exactly.

    python examples/generation_figures.py --generator runs/generator/model --data runs/picked \\
        --held-out runs/picked-val -o docs/generation
    python examples/generation_figures.py --only toy_law -o docs/generation        # needs no data

What enters: a generator, and the folders examples/pick_classes.py made of what it was trained on and
of what it was not. What leaves, in the folder of -o:

classes.webp      new pictures, a row a class
neighbours.webp   new pictures, each before the two training pictures that are nearest in SqueezeNet's features
inpainting.webp   held-out pictures, their reconstruction, the left half given, and three ways in which it goes on
toy_law.png       samples and code lengths of a tiny model beside the law it was trained on (tests/generate/toy.py)

and figures.json: how many codes of the given half changed (0), and distances to neighbours beside those among training
pictures themselves: samples that were copies would be nearer.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import bsq
from bsq.generate.edit import Editor
from bsq.generate.folder import load_generator
from bsq.generate.guidance import ConstantGuidance
from bsq.generate.likelihood import code_length
from bsq.generate.order import RandomSettings
from bsq.generate.sampler import Sampler, SamplerSettings
from bsq.metrics.features import SqueezeNetwork

GAP = 2
WAYS = 3


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    found = options.output / "figures.json"
    told: dict[str, Any] = json.loads(found.read_text()) if found.exists() else {}
    if "toy_law" in options.only:
        told["toy_law"] = draw_law(options.output / "toy_law.png")
    if set(options.only) - {"toy_law"}:
        trained = load_generator(options.generator)
        how = {"steps": options.steps, "guidance": {"kind": "linear", "weight": options.guidance}}
        editor = Editor(trained, bsq.load(options.model), SamplerSettings.model_validate(how))
        names = trained.card.class_names
        if "classes" in options.only:
            save(rows_of_classes(editor, len(names), options), options.output / "classes.webp")
        if "neighbours" in options.only:
            picture, told["neighbours"] = neighbours(editor, names, options)
            save(picture, options.output / "neighbours.webp")
        if "inpainting" in options.only:
            picture, told["inpainting"] = restored(editor, names, options)
            save(picture, options.output / "inpainting.webp")
    found.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


def parse() -> argparse.Namespace:
    figures = ["classes", "neighbours", "inpainting", "toy_law"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="biscuit-s", help="folder, hub id or bundled name")
    parser.add_argument("--model", default="biscuit-s", help="its tokenizer")
    parser.add_argument("--data", type=Path, help="folders of training pictures, NAME/KEY-VIEW.png")
    parser.add_argument("--held-out", type=Path, help="folders of others")
    parser.add_argument("--only", nargs="+", choices=figures, default=figures)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def rows_of_classes(editor: Editor, classes: int, options: argparse.Namespace) -> list[list[np.ndarray]]:
    return [
        list(sampled(editor, torch.full((options.columns,), number), options.seed, number * options.columns))
        for number in range(classes)
    ]


def sampled(editor: Editor, classes: Tensor, seed: int, first: int) -> np.ndarray:
    """uint8 (n, H, W, 3)."""
    return as_pictures(editor.tokenizer.decode(editor.sampler.sample(classes, seed, first)))


def neighbours(
    editor: Editor, names: tuple[str, ...], options: argparse.Namespace
) -> tuple[list[list[np.ndarray]], dict[str, float]]:
    """Two samples a class in a row, each with two neighbours behind it. Mirrored views count as training pictures."""
    network = SqueezeNetwork(at_once=16)
    rows, nearest, among = [], [], []
    for number, name in enumerate(names):
        paths = sorted((options.data / name).glob("*.png"))
        training = np.stack([np.asarray(Image.open(path)) for path in paths])
        stems = np.array([path.stem.rpartition("-")[0] for path in paths])
        known = features(network, training)
        made = sampled(editor, torch.full((2,), number), options.seed, number * options.columns)
        apart = torch.cdist(features(network, made), known)
        row = []
        for picture, distances in zip(made, apart, strict=True):
            order = distances.argsort().tolist()
            other = next(place for place in order if stems[place] != stems[order[0]])
            row += [picture, training[order[0]], training[other]]
            nearest.append(float(distances.min()))
        rows.append(row)
        centres = torch.tensor([stem.endswith("-0") for stem in (path.stem for path in paths)])
        for place in centres.nonzero()[:, 0].tolist()[:40]:
            others = torch.from_numpy(stems != stems[place])
            among.append(float(torch.cdist(known[place : place + 1], known[others]).min()))
    told = {"sample_to_nearest_training": median(nearest), "training_to_nearest_other_training": median(among)}
    return rows, told


def features(network: SqueezeNetwork, pictures: np.ndarray) -> Tensor:
    return network.pictures(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1).pooled


def restored(
    editor: Editor, names: tuple[str, ...], options: argparse.Namespace
) -> tuple[list[list[np.ndarray]], dict[str, int]]:
    """A row a class: picture, its codes alone, the half that is given, and what is made of it."""
    rows, changed, kept = [], 0, 0
    for number, name in enumerate(names):
        path = sorted((options.held_out / name).glob("*-0.png"))[options.seed]
        picture = np.asarray(Image.open(path))
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        mask = torch.zeros(picture.shape[:2], dtype=torch.bool)
        mask[:, picture.shape[1] // 2 :] = True
        codes = editor.tokenizer.encode(pixels)
        given = picture.copy()
        given[mask.numpy()] = 255
        row = [picture, as_pictures(editor.tokenizer.decode(codes.first(editor.digits)))[0], given]
        for way in range(WAYS):
            edited = editor.inpaint(pixels, mask, number, seed=options.seed, first=way)
            changed += int((edited.codes.digits != codes.digits)[~edited.made].sum())
            kept += int((~edited.made).sum()) * codes.length
            row.append(as_pictures(edited.pixels(editor.tokenizer))[0])
        rows.append(row)
    return rows, {"digits_of_given_halves": kept, "of_these_changed": changed}


def draw_law(path: Path) -> dict[str, float]:
    """Each outcome's probability beside its share of samples, and the code length beside the entropy."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "generate"))
    from toy import OUTCOMES, digits_of, entropy, law, learn, outcomes_of

    network, count = learn(), 8000
    exact = {"steps": 8, "schedule": "linear", "order": RandomSettings(), "guidance": ConstantGuidance(weight=0.0)}
    sampler = Sampler(network, SamplerSettings.model_validate(exact | {"together": count}))
    figure, told = Figure(figsize=(10, 3.6), layout="constrained"), {}
    for label, panel in enumerate(figure.subplots(1, 2, sharey=True)):
        truth = law(label)
        outcomes = outcomes_of(sampler.sample(torch.full((count,), label), seed=1).digits)
        shares = np.bincount(outcomes.numpy(), minlength=OUTCOMES) / count
        perfect = np.random.default_rng(2).multinomial(count, truth) / count
        every = torch.arange(OUTCOMES)
        bits = code_length(network, digits_of(every), torch.full((OUTCOMES,), label), passes=8).numpy()
        found = {
            "total_variation": float(np.abs(shares - truth).sum() / 2),
            "total_variation_of_perfect_samples": float(np.abs(perfect - truth).sum() / 2),
            "entropy_bits": entropy(label),
            "code_length_bits": float((bits * truth).sum()),
        }
        told |= {f"class {label}: {name}": round(value, 4) for name, value in found.items()}
        order = np.argsort(-truth)
        panel.plot(shares[order], ".", color="#bc4a3c", markersize=4, label=f"{count} samples")
        panel.plot(truth[order], color="#1c1c20", linewidth=1, label="law")
        panel.set(yscale="log", xlabel="outcome, likeliest first", ylim=(5e-5, 0.5))
        panel.set_title(
            f"class {label}: total variation {found['total_variation']:.3f} (perfect samples "
            f"{found['total_variation_of_perfect_samples']:.3f})\ncode length {found['code_length_bits']:.3f} bits, "
            f"entropy {found['entropy_bits']:.3f}",
            fontsize=9,
        )
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend()
    figure.savefig(path, dpi=100)
    return told


def as_pictures(pixels: Tensor) -> np.ndarray:
    """(B, 3, 1, H, W) → uint8 (B, H, W, 3)."""
    return ((pixels[:, :, 0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def save(rows: list[list[np.ndarray]], path: Path) -> None:
    padded = [
        np.concatenate([np.pad(one, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for one in row], 1)
        for row in rows
    ]
    Image.fromarray(np.concatenate(padded)).save(path, quality=88)


def median(values: list[float]) -> float:
    return round(float(np.median(values)), 3)


if __name__ == "__main__":
    main()
