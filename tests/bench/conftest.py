from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with edges, gradients and a little noise, 176×200 and 168×192."""
    path = tmp_path / "pictures"
    path.mkdir()
    for seed, (height, width) in enumerate(((176, 200), (168, 192))):
        random = np.random.default_rng(seed)
        rows, columns = np.mgrid[:height, :width]
        waves = [np.sin(rows / (9 + c) + seed) * 60 + np.cos(columns / (13 + 2 * c)) * 50 + 128 for c in range(3)]
        picture = np.stack(waves, -1) + 40 * ((rows // 24 + columns // 30) % 2)[..., None]
        picture += random.normal(0, 6, picture.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path / f"p{seed}.png")
    return path
