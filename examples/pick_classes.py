"""Some classes of labelled tars, cut to one shape, as folders for `bsq tokenize --label folder`.

    python examples/pick_classes.py 'train-*.tar' --names classes.txt --least 100 --without Faces -o runs/picked

What enters: tars of pictures with a class's number in a `.cls` beside each, and the names of the classes. What leaves:
OUT/NAME/KEY-VIEW.png, every picture `--size` pixels high and wide: view 0 the largest window of that shape in the
middle, the others at random places, a little smaller, every second one mirrored; and OUT/classes.txt, the names picked.
`bsq tokenize --size` cuts squares; this is for shapes that are none, such as aeroplanes seen from the side.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from glob import glob
from pathlib import Path

import numpy as np
from PIL import Image

from bsq.data.labels import labels_of, read_class_names
from bsq.data.pictures import open_picture
from bsq.data.stored import Stored, find_pictures


def main() -> None:
    options = parse()
    names = read_class_names(str(options.names))
    items = find_pictures([path for pattern in options.tars for path in sorted(glob(pattern))])
    labels = labels_of(items, names)
    counts = Counter(names[label] for label in labels)
    picked = options.classes or sorted(
        name for name, count in counts.items() if count >= options.least and name not in options.without
    )
    made = 0
    for item, label in zip(items, labels, strict=True):
        if names[label] in picked:
            made += write_views(item, options.out / names[label], options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "classes.txt").write_text("".join(f"{name}\n" for name in picked))
    print(f"{made} pictures of {len(picked)} classes: " + ", ".join(f"{name} {counts[name]}" for name in picked))


def write_views(item: Stored, folder: Path, options: argparse.Namespace) -> int:
    """→ how many."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(open_picture(item.read()))
    key = Path(item.member or item.path).stem
    height, width = options.size
    for view in range(options.views):
        drawn = np.random.default_rng((view, int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")))
        zoom, down, right = drawn.random(3) if view else (1.0, 0.5, 0.5)
        scale = min(picture.width / width, picture.height / height)
        scale *= options.zoom + (1 - options.zoom) * zoom
        left, top = right * (picture.width - scale * width), down * (picture.height - scale * height)
        box = (left, top, min(picture.width, left + scale * width), min(picture.height, top + scale * height))
        cut = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
        if view % 2:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        cut.save(folder / f"{key}-{view}.png")
    return int(options.views)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tars", nargs="+", help="tars or globs of them")
    parser.add_argument("--names", type=Path, required=True, help="names of the classes, one a line")
    parser.add_argument("--classes", nargs="+", default=[], help="which; default: those with --least pictures")
    parser.add_argument("--least", type=int, default=100)
    parser.add_argument("--without", nargs="*", default=[], help="leave these out")
    parser.add_argument("--size", type=int, nargs=2, default=(80, 112), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--zoom", type=float, default=0.88, help="smallest side of a window, part of the largest")
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
