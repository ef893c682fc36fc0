"""What one attention remembers of earlier frames. What enters: keys and values of a frame. What leaves: those that the
frame sees.
"""

from __future__ import annotations

from torch import Tensor


class Past:
    """Keys and values of the last `window_frames` frames (None: of all), so that memory is bounded by the window.

    Frames stand in the order they came until the window is full; then each takes the place of the one that leaves.
    Where a frame stands depends on its number alone, not on how many frames came at once: so do its roundings.
    """

    def __init__(self, window_frames: int | None) -> None:
        self.window_frames = window_frames
        self.frames = 0
        self._kept: tuple[Tensor, Tensor] | None = None

    @property
    def kept_bytes(self) -> int:
        """Memory of what is remembered, with the room made for frames to come."""
        return 0 if self._kept is None else sum(kept.nbytes for kept in self._kept)

    def take_in(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (n, heads, S, d) of the next frame → (n, heads, F·S, d) of the F frames that it sees."""
        places, number = keys.shape[2], self.frames
        self.frames += 1
        if self.window_frames == 1:
            return keys, values
        if self._kept is None:
            self._kept = keys, values
            return keys, values
        window = self.window_frames or self.frames  # without one, no frame ever leaves
        seen = min(self.frames, window) * places
        here = number % window * places
        if self._kept[0].shape[2] < seen:
            self._kept = _twice_as_large(self._kept, self.window_frames and self.window_frames * places)
        for kept, new in zip(self._kept, (keys, values), strict=True):
            kept[:, :, here : here + places] = new
        return self._kept[0][:, :, :seen], self._kept[1][:, :, :seen]


def _twice_as_large(kept: tuple[Tensor, Tensor], most: int | None) -> tuple[Tensor, Tensor]:
    """The same with room for twice as many tokens, `most` at most: growing by doubling costs little."""
    tokens = kept[0].shape[2]
    room = 2 * tokens if most is None else min(2 * tokens, most)
    larger = tuple(old.new_empty(*old.shape[:2], room, old.shape[3]) for old in kept)
    for new, old in zip(larger, kept, strict=True):
        new[:, :, :tokens] = old
    return larger[0], larger[1]
