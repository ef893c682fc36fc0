"""Any module as a network of pictures. What enters: an `nn.Module`. What leaves: a `FeatureNetwork`, not comparable."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from bsq.errors import SettingsError, ShapeError
from bsq.metrics.features import Features, by_pieces, plain


class ModuleNetwork:
    """A module that maps float32 (B, 3, H, W) in [−1, 1] to (B, D), or to (B, D, h, w) to be averaged over places."""

    def __init__(self, module: nn.Module, name: str, device: torch.device | str = "cpu", at_once: int = 1) -> None:
        """Moves the module to `device` and puts it into evaluation mode; its hash is that of all its tensors."""
        if at_once < 1:
            raise SettingsError(f"a network must be given 1 picture or more at once, not {at_once}")
        self._module = module.to(device).eval()
        self._device, self._at_once = device, at_once
        self.name = name
        self.weights_sha256 = hash_of_tensors(module)
        self.label = f"not comparable: features of {name}"

    def pictures(self, pixels: Tensor) -> Features:
        """Float (B, 3, H, W) in [−1, 1]."""
        return by_pieces(self._piece, pixels, self._at_once, self._device)

    def _piece(self, pixels: Tensor) -> Features:
        found = self._module(pixels.to(self._device, torch.float32))
        if not isinstance(found, Tensor) or found.ndim not in (2, 4) or len(found) != len(pixels):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(f"{self.name} must give ({len(pixels)}, D) or ({len(pixels)}, D, h, w), it gave {shape}")
        return Features(plain(found.mean((2, 3)) if found.ndim == 4 else found))


def hash_of_tensors(module: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and values of a module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name};{values.dtype};{tuple(values.shape)};".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
