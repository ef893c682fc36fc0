"""Pictures and videos as short rows of bits, and back (binary spherical quantization, arXiv 2406.07548).

>>> import bsq
>>> data = bsq.compress("photo.jpg")        # bytes of a .bsq file
>>> picture = bsq.decompress(data)          # uint8 (H, W, 3)
>>> tokenizer = bsq.load("biscuit-s")       # for codes and pixels as tensors
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bsq.autoencoder import Autoencoder
    from bsq.checkpoint import load
    from bsq.codec.media import compress, decompress
    from bsq.codes import Codes
    from bsq.tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = ["Autoencoder", "Codes", "Tokenizer", "__version__", "compress", "decompress", "load"]

# Torch takes seconds to import; `bsq --help` and `bsq.__version__` must not wait for it (PEP 562).
_HOMES = {
    "Autoencoder": "bsq.autoencoder",
    "Codes": "bsq.codes",
    "Tokenizer": "bsq.tokenizer",
    "compress": "bsq.codec.media",
    "decompress": "bsq.codec.media",
    "load": "bsq.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bsq' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
