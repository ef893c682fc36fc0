"""Networks that come as TorchScript. What enters: a path. What leaves: the network, and its file's SHA-256.

A TorchScript file is a program of tensor operations; reading it runs no Python of the file. The two files named here
are checked against the hashes that their users state (k-diffusion for Inception, copies on the Hugging Face hub for
I3D). A file that is given by its path may be any other; its hash is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bsq.errors import CheckpointError
from bsq.frozen import files

INCEPTION = files.WeightFile(
    name="inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    use="The Fréchet distance in features of StyleGAN's Inception file",
    without="To go on without it, measure in SqueezeNet features, whose values are not comparable with published ones.",
)
I3D = files.WeightFile(
    name="i3d_torchscript.pt",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    use="The Fréchet video distance in I3D features",
    without="To go on without it, measure in SqueezeNet features, whose values are not comparable with published ones.",
)


@dataclass(frozen=True, eq=False)
class Script:
    """A network as it was read, in evaluation mode, and the SHA-256 of its file."""

    network: nn.Module
    path: Path
    sha256: str


def load_script(path: Path | str, device: torch.device | str = "cpu") -> Script:
    """Raises CheckpointError when there is no such file or it is no TorchScript."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no file {path}; expected a network saved as TorchScript")
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read as TorchScript, delete it if it was downloaded: {first}"
        ) from error
    return Script(network, path, files.sha256(path))


def find_script(file: files.WeightFile, path: Path | str | None, device: torch.device | str = "cpu") -> Script:
    """The script at `path`; without one, that of a known file, found or downloaded as `bsq.frozen.files` does."""
    return load_script(files.find(file) if path is None else path, device)
