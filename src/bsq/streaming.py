"""Video a few frames at a time. What enters: frames, or their codes, as they come. What leaves: the other, at once.

The bits are those of the whole clip however its frames are grouped (`bsq.vit.transformer` says why). A stream keeps
keys and values of as many earlier frames as a token sees: `window_frames` of them, or all where that is None. It writes
over them later, which tensors of `torch.inference_mode` refuse outside of it: so what is remembered is never one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bsq.codes import Codes
from bsq.errors import CodesError, SettingsError, ShapeError
from bsq.pixels import as_clip
from bsq.vit.grids import GridPast


class _Stream:
    """What both directions share: the frames so far, their shape, and what is remembered of them."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all frames: the next one is frame 0 of a new group, and decodes without those before it."""
        self.frames = 0
        self._past = GridPast()
        self._shape: tuple[int, ...] | None = None

    @property
    def kept_bytes(self) -> int:
        """Memory of all that is remembered of earlier frames."""
        return self._past.kept_bytes

    def _check(self, shape: tuple[int, ...], axes: str) -> None:
        if self._past.unfinished:
            raise SettingsError("an earlier push broke off halfway through its frames; restart() begins a new group")
        if self._shape not in (None, shape):
            raise ShapeError(
                f"this stream has had frames {axes} of {self._shape}, got {shape}; restart() begins a new group"
            )

    def _finish(self, shape: tuple[int, ...], frames: int) -> None:
        self._past.unfinished = False
        self._shape = shape
        self.frames += frames


class StreamEncoder(_Stream):
    """Pixels → codes. `frames` counts those taken in since the beginning or the last `restart`.

    >>> stream = tokenizer.stream_encoder()
    >>> for frames in film:                          # each (B, 3, H, W) or (B, 3, T, H, W) in [−1, 1]
    ...     codes = stream.push(frames)              # the codes of these frames
    """

    def __init__(self, encode: Callable[[Tensor, GridPast], Codes]) -> None:
        super().__init__()
        self._encode = encode

    def push(self, pixels: Tensor) -> Codes:
        """The next frames, as `Tokenizer.encode` takes them → their codes (B, T, h, w, L), T = 1 for (B, 3, H, W).

        Raises what `Tokenizer.encode` raises, and ShapeError where B, H or W differ from the frames before or a model
        with a table of frames has had them all.
        """
        clip = as_clip(pixels)
        shape = clip.shape[0], *clip.shape[-2:]
        self._check(shape, "(B, H, W)")
        with torch.inference_mode(False):
            codes = self._encode(clip, self._past)
        self._finish(shape, codes.shape[1])
        return codes


class StreamDecoder(_Stream):
    """Codes → pixels. Mirror of `StreamEncoder`."""

    def __init__(self, decode: Callable[[Codes, GridPast], Tensor]) -> None:
        super().__init__()
        self._decode = decode

    def push(self, codes: Codes) -> Tensor:
        """The codes of the next frames, all digits or the first k → their pixels (B, 3, T, H, W) in [−1, 1].

        Raises what `Tokenizer.decode` raises, and ShapeError where B or the grid differ from the frames before or a
        model with a table of frames has had them all.
        """
        if not isinstance(codes, Codes):
            raise CodesError(f"push takes Codes, as a stream encoder gives them, got {type(codes).__name__}")
        shape = codes.shape[0], *codes.shape[2:4]
        self._check(shape, "(B, h, w)")
        with torch.inference_mode(False):
            pixels = self._decode(codes, self._past)
        self._finish(shape, codes.shape[1])
        return pixels
