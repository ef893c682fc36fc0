"""Published networks in TorchScript. What enters: a file. What leaves: a module that runs, and the file's SHA-256.

A TorchScript file holds code. It is run by PyTorch's own interpreter, not by Python, but give only files you trust; the
published ones are known by their SHA-256, and downloaded only if it holds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bsq.errors import CheckpointError
from bsq.frozen import files
from bsq.frozen.inception import WITHOUT

INCEPTION_SCRIPT = files.WeightFile(
    name="inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    use="FID with the TorchScript Inception of StyleGAN",
    without=WITHOUT,
)
I3D_SCRIPT = files.WeightFile(
    name="i3d_torchscript.pt",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    use="FVD",
    without=WITHOUT,
)


@dataclass(frozen=True, eq=False)
class Script:
    """A module of TorchScript in evaluation mode."""

    module: nn.Module
    sha256: str
    name: str  # of the file

    def is_published(self, file: files.WeightFile) -> bool:
        return self.sha256 == file.sha256


def load_script(path: Path | str) -> Script:
    """Reads a TorchScript file onto the CPU. Raises CheckpointError."""
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"no file {file}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the published files exist in this form only
            module = torch.jit.load(str(file), map_location="cpu")
    except Exception as error:
        raise CheckpointError(f"{file} cannot be read as TorchScript: {_first_line(error)}") from error
    return Script(module.eval(), files.sha256(file), file.name)


def find_script(file: files.WeightFile, path: Path | str | None = None) -> Script:
    """The script at `path`, whatever it is; None: the published one. Raises CheckpointError."""
    return load_script(files.find(file) if path is None else path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
