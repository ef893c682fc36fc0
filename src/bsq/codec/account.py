"""What codes of one picture or clip take, and what they show. What enters: codes. What leaves: bits, and pixels.

Whoever looks for codes asks for both, and whoever writes what was found asks again. Each is worked out once for the
codes that were asked of last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from bsq.codes import Codes
from bsq.tokenizer import Tokenizer

Result = TypeVar("Result")


class Lately(Generic[Result]):
    """Calls `function`, but not for codes equal to those of the last call: their result is still at hand."""

    def __init__(self, function: Callable[[Codes], Result]) -> None:
        self._function = function
        self._last: tuple[Codes, Result] | None = None

    def __call__(self, codes: Codes) -> Result:
        """What comes out is not to be changed in place."""
        if self._last is None or self._last[0] != codes:
            self._last = None  # before more memory is taken
            self._last = codes, self._function(codes)
        return self._last[1]


class Account:
    """Of codes (1, T, h, w, kept) of a picture or clip of `size` pixels.

    bits(codes)   as `bits` says, how many they take
    shown(codes)  pixels (1, 3, T, H, W) in [−1, 1] by the model's decoder; not to be changed in place
    """

    def __init__(self, model: Tokenizer, size: tuple[int, int], bits: Callable[[Codes], float]) -> None:
        self.model, self.bits = model, bits
        self.shown = Lately(lambda codes: model.decode(codes, size))
