"""Small pictures, clips and models to evaluate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_pictures import small_picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five pictures of several sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(5):
        Image.fromarray(small_picture(seed, 48 + 4 * seed, 60 - 3 * seed)).save(folder / f"p{seed}.png")
    return folder


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of three clips of 12 frames."""
    import av

    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(3):
        with av.open(str(folder / f"{number}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.height, stream.width, stream.pix_fmt = 48, 56, "bgr0"  # type: ignore[union-attr]
            for moment in range(12):
                picture = np.ascontiguousarray(np.roll(small_picture(number), moment, 1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))  # type: ignore[union-attr]
            container.mux(stream.encode(None))  # type: ignore[union-attr]
    return folder
