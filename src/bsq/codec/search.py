"""Better codes by search. What enters: a picture or a group of frames. What leaves: codes of less error in their bytes.

An encoder guesses codes in one pass. Here those of one picture or clip are searched for: gradients of what counts,
distortion and coded bits, go through decoder and prior to the digits themselves, straight through their signs (Campos
et al. 2019, arXiv:1906.01223; Yang, Bamler & Mandt 2020, arXiv:2006.04240). Any decoder of the codes shows what was
found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from operator import index as whole_number

import numpy as np
import torch
from torch import Tensor

from bsq.codec.blocks import Block, cut_blocks
from bsq.codes import Codes
from bsq.errors import SettingsError, ShapeError
from bsq.layers.products import bfloat16_is_faster
from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss
from bsq.losses.structure import TRAINING_MIN_SIDE, pytorch_msssim
from bsq.pixels import as_clip
from bsq.prior.base import Prior
from bsq.prior.estimate import Estimate
from bsq.prior.exact import ExactPrior
from bsq.prior.lengths import digit_lengths
from bsq.quantizers import corner_of
from bsq.quantizers.base import straight_through
from bsq.tokenizer import Tokenizer

DISTORTION = ReconstructionSettings(l1=0.25, mse=1.0, ms_ssim=1.0, chroma=4.0)
"""As recipes/biscuit-s-colour.yaml trains; of sides that have fewer pixels than MS-SSIM needs, without it."""
GROWTH = 1.02
"""How many times the bits of the encoder's codes may be spent."""
WEIGHTS_OF_A_BIT = 3e-3, 4.5e-3, 7e-3
"""What a coded bit a token weighs beside distortion: the first makes files about as large as the encoder's, a little
smaller as a rule; the others are for those that would become too large.
"""
PULL = 0.08
"""What agreement with the encoder weighs. It knows what the prior expects, and calms digits that would flicker."""
LEARNING_RATE = 0.1
MOMENTUM = 0.8
MEMORY = 2 << 30
"""Bytes that gradients may take …"""
KEPT = 28
"""… of which a block of the decoder keeps so many float32 a token and unit of width."""
JUDGED = 512
"""Side in pixels, at least, of the pieces that distortion is measured in at the end; the last one of an axis has what
is left over, too.
"""

Told = Callable[[float], None]
"""Is told what share of a search is done."""


def check_search(steps: int, model: Tokenizer) -> int:
    """`steps` as a number of steps; 0 is no search.

    Raises SettingsError: no number, or a model whose codes cannot be searched for. MissingDependencyError.
    """
    try:
        count = whole_number(steps)
    except TypeError:
        count = -1
    if count < 0 or isinstance(steps, bool):
        raise SettingsError(f"search is a number of steps, 0 or more, got {steps!r}")
    if count:
        corner_of(model.quantizer, "search")
        if model.grid(1, 1) != (1, 1):
            raise SettingsError("search is for models that take any grid; this one has learned positions")
        pytorch_msssim()
    return count


class Search:
    """Codes of `bits` digits by `steps` steps of search, for one model and prior.

    Only the learned prior steers the search by its gradients; with any other the bits count in the end alone.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        model: Tokenizer,
        prior: Prior,
        bits: int,
        steps: int,
        told: Told | None = None,
        others: Sequence[Prior] = (),
    ) -> None:
        """`others`: priors that may write the codes in its place, if they take fewer bits. Raises as `check_search`."""
        self.steps, self.bits = check_search(steps, model), model.check_bits(bits)
        self.corner = corner_of(model.quantizer, "search")
        self.model, self.prior, self.others, self.told = model, prior, others, told
        # A copy: the model's own may be in half precision, or in training.
        self.decoder = copy.deepcopy(model.decoder).float().requires_grad_(False)
        self.device = next(self.decoder.parameters()).device
        self.estimate = Estimate(prior, bits, self.device) if isinstance(prior, ExactPrior) else None

    @torch.inference_mode(False)
    def __call__(self, pixels: Tensor, growth: float = GROWTH) -> Codes:
        """Codes (1, T, h, w, bits) of pixels (1, 3, T, H, W) or (1, 3, H, W) in [−1, 1], of less distortion than the
        encoder's in at most `growth` times their bits; the encoder's, if no such were found.

        Raises what `Tokenizer.encode` raises, and ShapeError for a batch. LimitError where gradients would take too
        much memory.
        """
        clip = as_clip(pixels)
        if len(clip) != 1:
            raise ShapeError(f"search takes one picture or clip at a time, got {len(clip)}")
        # Gradients must not touch what was made in an inference mode around us.
        clip = (clip.clone() if clip.is_inference() else clip).to(self.device)
        latent = self.model.latent(clip)
        first = Codes(self.model.quantizer.digits(latent), self.model.radices).first(self.bits)
        room, start = growth * self.spent(first), latent.float()
        start = start / start.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-30)
        for number, weight in enumerate(WEIGHTS_OF_A_BIT):
            signs = self.descend(clip, start, weight, number)
            found = Codes((signs[..., : self.bits] > 0).to(torch.uint8), first.radices)
            if self.spent(found) <= room:
                return found if self.distortion_of(found, clip) < self.distortion_of(first, clip) else first
        return first

    def spent(self, codes: Codes) -> float:
        """Bits of codes, by the prior that takes fewest."""
        return min(float(digit_lengths(prior, codes).sum()) for prior in (self.prior, *self.others))

    def descend(self, clip: Tensor, start: Tensor, weight: float, attempt: int) -> Tensor:
        """Signs (1, T, h, w, L), ±1 and zero behind the digits that are kept, from a latent of ones at the mean."""
        signs = torch.where(start > 0, 1.0, -1.0)
        signs[..., self.bits :] = 0
        draw, blocks = np.random.default_rng(0), self.blocks(*signs.shape[1:4])
        for number, block in enumerate(blocks):
            own = slice(None), block.frames.own, block.part.rows.own, block.part.columns.own, slice(self.bits)
            steps = self.descend_block(block, start[own], signs, clip, weight, draw)
            for step, soft in enumerate(steps, 1):
                signs[own] = torch.where(soft > 0, 1.0, -1.0)
                if self.told is not None:
                    done = (number + step / self.steps) / len(blocks)
                    self.told((attempt + done) / (attempt + 1))
        return signs

    def blocks(self, frames: int, rows: int, columns: int) -> list[Block]:
        """What is searched together, of a clip of so many tokens."""
        decoder = self.model.settings.decoder
        margin = -(-TRAINING_MIN_SIDE // self.model.patch)  # so that every block has enough for MS-SSIM
        past = None if decoder.window_frames is None else decoder.window_frames - 1
        most = MEMORY // (4 * KEPT * decoder.width * decoder.depth)
        return cut_blocks(frames, rows, columns, decoder.reach(rows, columns), margin, past, most)

    def descend_block(
        self, block: Block, soft: Tensor, signs: Tensor, clip: Tensor, weight: float, draw: np.random.Generator
    ) -> Iterator[Tensor]:
        """What becomes of `soft`, whose signs the block's digits are, step by step; digits in the margins stay."""
        frames, rows, columns = block.frames, block.part.rows, block.part.columns
        around = signs[:, frames.outer, rows.outer, columns.outer].clone()
        inside = slice(None), frames.inside, rows.inside, columns.inside, slice(self.bits)
        before = around[inside].clone()
        down, right = rows.times(self.model.patch), columns.times(self.model.patch)
        wanted = clip[:, :, frames.own, down.outer, right.outer]
        pull = PULL / around[:, frames.inside, ..., : self.bits].numel()
        descent = Descent()
        for step in range(self.steps):
            with torch.enable_grad():
                soft = soft.detach().requires_grad_()
                near_sign, around = soft.tanh(), around.detach()
                around[inside] = straight_through(torch.where(soft > 0, 1.0, -1.0), near_sign, 1.0)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16_is_faster(self.device)):
                    shown = self.decoder(around * self.corner)[:, :, frames.inside]
                    loss = distortion(shown, wanted) - pull * (near_sign * before).sum()
                    if self.estimate is not None:
                        loss = loss + weight * self.estimate.bits_a_token(around[0], frames.inside, draw)
                (gradient,) = torch.autograd.grad(loss, soft)
            cooled = LEARNING_RATE * (1 + math.cos(math.pi * step / self.steps)) / 2
            soft = soft.detach() - cooled * descent.direction(gradient)
            yield soft

    @torch.no_grad()
    def distortion_of(self, codes: Codes, clip: Tensor) -> float:
        """Of what these codes show, piece by piece."""
        height, width = clip.shape[-2:]
        shown = self.model.decode(codes, (height, width))
        total = 0.0
        for frame in range(clip.shape[2]):
            for rows in pieces(height):
                for columns in pieces(width):
                    here = slice(None), slice(None), slice(frame, frame + 1), rows, columns
                    total += float(distortion(shown[here], clip[here])) * clip[here].numel()
        return total / clip.numel()


def distortion(shown: Tensor, wanted: Tensor) -> Tensor:
    """Of what a decoder gives for whole patches, beside pixels (1, 3, T, H, W) that may lack padding."""
    height, width = wanted.shape[-2:]
    large = min(height, width) >= TRAINING_MIN_SIDE
    settings = DISTORTION if large else DISTORTION.model_copy(update={"ms_ssim": 0.0})
    return reconstruction_loss(shown[..., :height, :width], wanted, settings).loss


def pieces(size: int) -> Iterator[slice]:
    """Of an axis, `JUDGED` and less than twice that each, or all of it."""
    count = max(1, size // JUDGED)
    for number in range(count):
        yield slice(number * JUDGED, size if number == count - 1 else (number + 1) * JUDGED)


class Descent:
    """Momentum, in units of the gradients' root mean square so far: those digits move that matter. (Adam, which moves
    all of them alike, needs twice the steps.)
    """

    def __init__(self) -> None:
        self.momentum: Tensor | float = 0.0
        self.squares, self.steps = 0.0, 0

    def direction(self, gradient: Tensor) -> Tensor:
        """Where to go after this gradient, about 1 in size."""
        self.steps += 1
        self.squares += float(gradient.square().mean())
        self.momentum = MOMENTUM * self.momentum + (1 - MOMENTUM) * gradient
        size = math.sqrt(self.squares / self.steps) * (1 - MOMENTUM**self.steps)
        return self.momentum / max(size, 1e-30)
