"""Measures every table that can be measured here, one after another, each into a folder of its own.

    python examples/results.py --data data/ [--models runs/compare/] [-o out/results] [--only kodak …] [--dry-run]
    python examples/results.py --data data/ --publish docs/tables    # what -o holds, as small pages

`data/` holds kodak/ (the 24 photographs), photos-val* and videos-val* (folders or tars of held-out pictures and clips),
`--models` folders as examples/compare_recipes.py leaves them (lfq-18/model, video-causal/model …). A table whose data
is not there is left out, and said; a row whose model is not there likewise.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SMALL = "biscuit-s"
FOR_THE_EYE = "biscuit-s:perceptual"
LARGEST = 300_000  # bytes of a published picture


@dataclass(frozen=True)
class Data:
    """What there is to measure on; None for what is not."""

    kodak: Path | None
    photos: Path | None
    videos: Path | None


@dataclass(frozen=True)
class Task:
    """One table: the folder that receives it, and the arguments of `bsq`."""

    name: str
    arguments: tuple[str, ...]


def main() -> None:
    options = parse()
    data, models = find(options.data), found_models(options.models)
    tasks = [task for task in tables(data, models) if not options.only or task.name in options.only]
    for word, place in (("kodak/", data.kodak), ("photos-val*", data.photos), ("videos-val*", data.videos)):
        if place is None:
            print(f"left out: tables of {word}, which is not in {options.data}")
    if options.publish is not None:
        for task in tasks:
            publish(options.output / task.name, options.publish / task.name)
        return
    failed = [task.name for task in tasks if not run(task, options)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if not tasks:
        sys.exit("there is nothing to measure")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder of trained models to compare with")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/results"))
    parser.add_argument("--only", nargs="*", default=[], metavar="TABLE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, help="only so many samples a table, to try it")
    parser.add_argument("--publish", type=Path, metavar="FOLDER", help="measure nothing; copy what was measured")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    return parser.parse_args()


def find(data: Path) -> Data:
    def first(pattern: str) -> Path | None:
        return next(iter(sorted(data.glob(pattern))), None)

    return Data(first("kodak"), first("photos-val*"), first("videos-val*"))


def found_models(folder: Path | None) -> dict[str, Path]:
    """Trained models by their recipes' names."""
    if folder is None:
        return {}
    return {path.parent.name: path for path in sorted(folder.glob("*/model"))}


def tables(data: Data, models: dict[str, Path]) -> list[Task]:
    found = []
    if data.photos is not None:
        ours = [*(f"{SMALL}@{bits}" for bits in (9, 18, 36)), f"{FOR_THE_EYE}@18"]
        trained = named(models, ("bsq-18", "lfq-18", "fsq-18", "kl-18", "bsq-10", "vq-10", "fsq-10", "lfq-10"))
        beside = ["diffusers:random-sd-vae", f"webp@as:{SMALL}@18", f"avif@as:{SMALL}@18"]
        more = ("--compare", "published", "--timed", "1")
        found += [
            evaluation("reconstruction", "imagenet-256", [*ours, *trained, *beside], data.photos, *more),
            evaluation("quantizers", "imagenet-128", [*trained, *ours], data.photos, "--compare", "published"),
        ]
    if data.kodak is not None:
        trained = named(models, ("lfq-18", "vq-10", "fsq-18", "bsq-18"))
        ours = [f"BSQ={SMALL}@18", f"BSQ + prior={SMALL}@18+prior", f"the same, perceptual={FOR_THE_EYE}@18+prior"]
        codecs = [
            f"{codec} at {rate}={codec}@as:{rate}"
            for rate in ("BSQ", "BSQ + prior")
            for codec in ("jpeg2000", "webp", "avif")
        ]
        found.append(evaluation("kodak", "kodak", [*codecs, *trained, *ours], data.kodak, "--compare", "published"))
        found.append(Task("codecs", ("bench", "codecs", str(data.kodak))))
    if data.videos is not None:
        trained = named(models, ("video-frame", "video-full", "video-causal"))
        ours = [f"{SMALL}, frame only={SMALL}@18+frames", f"{SMALL}={SMALL}@18"]
        codecs = [f"{codec}@as:{SMALL}" for codec in ("x264", "x265", "av1")]
        rows = [*trained, *ours, *codecs]
        found.append(evaluation("video", "ucf101", rows, data.videos, "--compare", "published"))
    return found


def named(models: dict[str, Path], wanted: tuple[str, ...]) -> list[str]:
    """Rows of the models that are there; the others are said to be missing."""
    missing = [name for name in wanted if name not in models]
    if missing:
        print(f"left out: rows of {', '.join(missing)}, which --models does not hold", file=sys.stderr)
    return [f"{name}={models[name]}" for name in wanted if name in models]


def evaluation(name: str, protocol: str, systems: list[str], data: Path, *more: str) -> Task:
    verb = {"kodak": "compression", "video": "video"}.get(name, "reconstruction")
    rows = [argument for system in systems for argument in ("--system", system)]
    return Task(name, ("evaluate", verb, *rows, "--data", str(data), "--protocol", protocol, *more))


def run(task: Task, options: argparse.Namespace) -> bool:
    """Whether it went well."""
    arguments = [*task.arguments, "-o", str(options.output / task.name)]
    if task.arguments[0] == "evaluate":
        arguments += ["--processes", str(options.processes)]
        arguments += ["--first", str(options.first)] if options.first else []
    elif options.first:
        arguments += ["--pictures", str(options.first)]
    print(f"\n$ bsq {shlex.join(arguments)}", flush=True)
    if options.dry_run:
        return True
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "bsq.cli.main", *arguments], check=False)
    print(f"{task.name}: {(time.perf_counter() - start) / 60:.1f} minutes, exit code {done.returncode}", flush=True)
    return done.returncode == 0


def publish(measured: Path, page: Path) -> None:
    """A table's folder → page.md, and its pictures beside it, each of at most 300 kB."""
    if not (measured / "table.md").is_file():
        print(f"not measured yet: {measured.name}")
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    text = (measured / "table.md").read_text(encoding="utf-8")
    for picture in sorted((*measured.glob("*.png"), *measured.glob("*.webp"))):
        target = page.with_name(f"{page.name}-{picture.stem}.webp")
        shrink(picture, target)
        text = text.replace(f"]({picture.name})", f"]({target.name})").replace(
            f"![{picture.name}]", f"![{picture.stem}]"
        )
    page.with_suffix(".md").write_text(text, encoding="utf-8")


def shrink(picture: Path, target: Path) -> None:
    with Image.open(picture) as image:
        whole = image.convert("RGB")
    for quality in range(90, 0, -10):
        whole.save(target, quality=quality, method=6)
        if target.stat().st_size <= LARGEST:
            return


if __name__ == "__main__":
    main()
