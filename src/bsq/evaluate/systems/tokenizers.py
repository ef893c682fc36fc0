"""Our tokenizers as systems. What enters: a tokenizer and a number of digits. What leaves: a `System`.

LFQ, VQ and FSQ models are tokenizers like BSQ's, and the authors' checkpoints become one. Raw bits are those of the
codes, tokens · Σ log2 radix; with a prior they are those of the real `.bsq` file, all of it.
"""

from __future__ import annotations

import io
import math
from fractions import Fraction

import torch
from torch import Tensor

from bsq.bench.video.ablation import frames_together, sees
from bsq.codec.picture import compress, decompress
from bsq.codec.seeking import told_search
from bsq.codec.shelf import priors_for
from bsq.codec.video import compress_video, decompress_video
from bsq.codes import Codes
from bsq.data.pictures import to_pixels, to_uint8
from bsq.errors import SettingsError
from bsq.evaluate.systems.base import Reconstructed
from bsq.evaluate.systems.fitting import clip_of, frames_of, one_by_one
from bsq.tokenizer import Tokenizer

RATE = Fraction(25)  # a file must name one; it changes nothing that is measured
FLOAT_BITS = 16  # the paper's currency for continuous latents: 4 channels make 64 bits a token


class TokenizerSystem:
    """A tokenizer and its codes as they are. A continuous latent goes through its mean."""

    def __init__(self, name: str, model: Tokenizer, bits: int | None = None) -> None:
        """Raises SettingsError for more digits than there are."""
        digits = len(model.radices)
        if bits is not None and not 1 <= bits <= digits:
            raise SettingsError(f"{name}: this tokenizer has {digits} digits, or a continuous latent if 0; got @{bits}")
        self.name, self.model, self.bits = name, model, bits
        self.currency = "code bits" if digits else f"{FLOAT_BITS}-bit floats"
        self.parameters: int | None = sum(parameter.numel() for parameter in model.parameters())
        kind, kept = model.settings.quantizer.kind, bits or digits
        codes = f"{kept} of {digits} digits" if digits else f"{model.quantizer.code_width} channels, their mean"
        self.description = f"{kind} tokenizer, patch {model.patch}, {codes}, codes {model.code_hash[:8]}, {sees(model)}"
        self.notes: tuple[str, ...] = ()

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        """A clip longer than the model's table of frames goes through in stretches of that length, each alone."""
        clips, bits = one_by_one(pixels), (self._bits_of(pixels),) * len(pixels)
        length = frames_together(self.model, pixels.shape[2])
        parts = [[self._stretch(part) for part in clip.split(length, dim=2)] for clip in clips]
        again = torch.cat([torch.cat([part.pixels for part in clip], 2) for clip in parts])
        if not self.model.radices:
            return Reconstructed(again, bits)
        digits = [torch.cat([part.codes.digits for part in clip if part.codes is not None], 1) for clip in parts]
        return Reconstructed(again, bits, Codes(torch.cat(digits), self.model.radices[: self.bits]))

    def reconstruct_together(self, pixels: Tensor) -> Tensor:
        stretches = pixels.split(frames_together(self.model, pixels.shape[2]), dim=2)
        return torch.cat([self.model.reconstruct(stretch, self.bits).cpu() for stretch in stretches], 2)

    def _stretch(self, clip: Tensor) -> Reconstructed:
        """A clip (1, 3, T, H, W) that the model can take at once."""
        bits = (self._bits_of(clip),)
        if not self.model.radices:
            return Reconstructed(self.model.reconstruct(clip).cpu(), bits)
        codes = self.model.encode(clip, self.bits)
        again = self.model.decode(codes, (clip.shape[-2], clip.shape[-1])).cpu()
        return Reconstructed(again, bits, Codes(codes.digits.cpu(), codes.radices))

    def _bits_of(self, pixels: Tensor) -> float:
        """Of one clip."""
        rows, columns = self.model.grid(*pixels.shape[-2:])
        tokens, radices = pixels.shape[2] * rows * columns, self.model.radices[: self.bits]
        if not radices:
            return float(tokens * self.model.quantizer.code_width * FLOAT_BITS)
        return tokens * math.fsum(math.log2(radix) for radix in radices)


class FileSystem(TokenizerSystem):
    """Through real `.bsq` files, written with the best prior there is, their codes found by `search` steps of search
    (None: by as many as `compress` takes unasked); pixels are those of 8-bit pictures.
    """

    def __init__(self, name: str, model: Tokenizer, bits: int | None = None, search: int | None = None) -> None:
        super().__init__(name, model, bits)
        if not model.radices:
            raise SettingsError(f"{name}: a continuous latent has no digits, so no prior")
        self._prior, self._search = priors_for(model)[0], search
        self.currency = "file bits"
        self.description += f", {self._prior.name} prior {bytes(self._prior.identity).hex()}"
        self.description += f" (of clips the one that makes the file smallest); {told_search(search)}"

    def reconstruct(self, pixels: Tensor) -> Reconstructed:
        files = [self._through_file(clip) for clip in one_by_one(pixels)]
        return Reconstructed(torch.cat([again for again, _ in files]), tuple(bits for _, bits in files))

    def reconstruct_together(self, pixels: Tensor) -> Tensor:
        """Files are written one by one."""
        return self.reconstruct(pixels).pixels

    def _through_file(self, clip: Tensor) -> tuple[Tensor, float]:
        frames = [to_uint8(frame[None]) for frame in frames_of(clip)]
        if len(frames) == 1:
            data = compress(frames[0], self.model, self.bits, self._prior, search=self._search)
            again = [decompress(data, self.model, priors=(self._prior,))]
        else:
            file = io.BytesIO()
            compress_video(frames, RATE, file, self.model, self.bits, search=self._search)
            data = file.getvalue()
            again = list(decompress_video(file, self.model).frames)
        return clip_of(torch.cat([to_pixels(frame) for frame in again])), 8.0 * len(data)
