"""What codes of one picture or clip take, and what they show. What enters: codes. What leaves: bits, and pixels.

Whoever looks for codes asks for both, and whoever writes what was found asks again. Each is worked out once for the
codes that were asked of last, and the encoder is asked once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Generic, TypeVar

import torch
from torch import Tensor

from bsq.codes import Codes
from bsq.pixels import as_clip
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
    """Of codes (1, T, h, w, kept) of the picture or clip `pixels` (1, 3, H, W) or (1, 3, T, H, W) in [−1, 1].

    bits(codes)   as `bits` says, how many they take
    shown(codes)  pixels (1, 3, T, H, W) in [−1, 1] by the model's decoder; not to be changed in place
    """

    def __init__(self, model: Tokenizer, pixels: Tensor, bits: Callable[[Codes], float]) -> None:
        self.model, self.pixels, self.bits = model, pixels, bits
        self.shown = Lately(partial(model.decode, size=(pixels.shape[-2], pixels.shape[-1])))

    @cached_property
    @torch.inference_mode(False)
    def clip(self) -> Tensor:
        """The pixels (1, 3, T, H, W), where the model is; what a gradient may touch, whatever mode is around us."""
        clip = as_clip(self.pixels)
        return (clip.clone() if clip.is_inference() else clip).to(next(self.model.parameters()).device)

    @cached_property
    @torch.inference_mode(False)
    def latent(self) -> Tensor:
        """What the quantizer is given (1, T, h, w, latent_width)."""
        return self.model.latent(self.clip)

    @torch.no_grad()
    def codes(self, kept: int) -> Codes:
        """The encoder's, their first `kept` digits."""
        return Codes(self.model.quantizer.digits(self.latent), self.model.radices).first(kept)
