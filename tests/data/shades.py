"""Small pictures made by code, each a shade of its own."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def png(value: int) -> bytes:
    """16×16 pixels of one grey, 0 … 255."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
