"""What a backward pass needs in memory. What enters: a computation. What leaves: the bytes it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def kept_bytes(compute: Callable[[], object], apart: Iterable[Tensor] = ()) -> int:
    """Bytes of all storages that `compute` keeps for its gradients, `apart` from those of given tensors."""
    known = {tensor.untyped_storage().data_ptr() for tensor in apart}
    kept: dict[int, Tensor] = {}  # tensors, so that no storage is freed and its place taken by another

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in known)
