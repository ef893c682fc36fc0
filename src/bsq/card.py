"""Model cards: the README.md of a model folder. What enters: what a model is. What leaves: front matter and a page.

The hub reads the front matter (library, license, tags, task); people read the page: what the model does, its size, how
it is used. Measured figures are not ours to make up: a card that comes with a model stays with it, figures and all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TAGS = ("image-tokenizer", "image-compression")
PAPER = "https://arxiv.org/abs/2406.07548"
USE = """\
## Use

```python
import bsq

data = bsq.compress("photo.jpg", tokenizer="{name}")       # the bytes of a .bsq file
picture = bsq.decompress(data, tokenizer="{name}")         # uint8 (H, W, 3)

tokenizer = bsq.load("{name}")                             # for codes and pixels as tensors
```

```sh
bsq encode photo.jpg --model {name}
bsq decode photo.bsq --model {name} -o again.png
```
"""
USE_CONTINUOUS = """\
## Use

```python
import bsq

tokenizer = bsq.load("{name}")     # tokenizer.reconstruct takes float (B, 3, H, W) in [-1, 1]
```
"""
PAGE = """\
---
library_name: bsq
license: mit
pipeline_tag: image-to-image
tags: [{tags}]
---

# {title}

A visual tokenizer for [bsq](https://pypi.org/project/bsq): {patch}×{patch} pixels of a picture{or_frame} become {code}.

| | |
|---|---|
| parameters | {parameters} |
| quantizer | {quantizer} |
| bits per pixel, before entropy coding | {rate} |
| encoder, decoder | {bodies} |
| code hash | `{code_hash}` |

{use}
## Quality

Not measured yet: `bsq bench reconstruction PICTURES -o out --model {name}` makes the table.
{method}"""


@dataclass(frozen=True)
class ModelFacts:
    """What a card says of a model. `name`: what `bsq.load` takes; `kind`: of the quantizer; `bodies`: encoder and
    decoder in words.
    """

    name: str
    kind: str
    patch: int
    radices: tuple[int, ...]
    video: bool
    parameters: int
    bodies: str
    code_hash: str


def write_card(facts: ModelFacts) -> str:
    """The card of a model that has none."""
    bits = sum(math.log2(radix) for radix in facts.radices)
    count, binary = len(facts.radices), set(facts.radices) == {2}
    match facts.radices:
        case ():
            code, rate = "a continuous latent", "–"
        case (radix,):
            code, rate = f"one of {radix:,} codes", f"{bits / facts.patch**2:.4g}"
        case _:
            code = f"{count} bits" if binary else f"{count} digits ({bits:.4g} bits)"
            rate = f"{bits / facts.patch**2:.4g}"
    tags = [
        *TAGS,
        *(["video-tokenizer"] if facts.video else []),
        *(["arxiv:2406.07548"] if facts.kind == "bsq" else []),
    ]
    return PAGE.format(
        tags=", ".join(tags),
        title=facts.name.rpartition("/")[2] or "A tokenizer",
        patch=facts.patch,
        or_frame=" or of a frame" if facts.video else "",
        code=code,
        use=(USE if facts.radices else USE_CONTINUOUS).format(name=facts.name),
        parameters=f"{facts.parameters / 1e6:.2f} M",
        quantizer=facts.kind.upper(),
        rate=rate,
        bodies=facts.bodies,
        code_hash=facts.code_hash,
        name=facts.name,
        method=f"\n## Method\n\nBinary spherical quantization, [arXiv 2406.07548]({PAPER}).\n"
        if facts.kind == "bsq"
        else "",
    )
