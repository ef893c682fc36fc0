"""Pictures, folders and shards: from files to pixels and back; and shards of tokens, for training on codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bsq.data.tokens import TokenDataset

__all__ = ["TokenDataset"]


def __getattr__(name: str) -> Any:
    """Light until it is asked for: most of what uses this room needs no data set (PEP 562)."""
    if name != "TokenDataset":
        raise AttributeError(f"module 'bsq.data' has no attribute {name!r}")
    from bsq.data.tokens import TokenDataset

    return TokenDataset
