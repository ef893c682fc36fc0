"""Better codes by search. What enters: a picture or a group of frames. What leaves: codes of less error in their bytes.

An encoder guesses codes in one pass. Here those of one picture or clip are searched for: gradients of what counts,
distortion and coded bits, go through decoder and prior to the digits themselves, straight through their signs (Campos
et al. 2019, arXiv:1906.01223; Yang, Bamler & Mandt 2020, arXiv:2006.04240). Any decoder of the codes shows what was
found.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor

from bsq.codes import Codes
from bsq.errors import SettingsError
from bsq.layers.products import halves_time
from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss
from bsq.losses.structure import TRAINING_MIN_SIDE
from bsq.parts import Part, Reach, cut_parts
from bsq.pixels import as_clip
from bsq.prior.base import Prior
from bsq.prior.exact import ExactPrior
from bsq.prior.freeze import thaw
from bsq.prior.lengths import digit_lengths
from bsq.prior.points import Asking, costs, draw_point
from bsq.quantizers import corner_of
from bsq.quantizers.base import straight_through
from bsq.tokenizer import Tokenizer
from bsq.vit.grids import tiling_of

DISTORTION = ReconstructionSettings(l1=0.25, mse=1.0, ms_ssim=1.0, chroma=4.0)
"""As biscuit-s is trained; where a side has fewer pixels than MS-SSIM needs, without it."""
WEIGHTS_OF_A_BIT = 3e-3, 4.5e-3, 7e-3
"""What a coded bit a token weighs beside distortion: with the first files come out about as large as the encoder's, a
little smaller as a rule; the others are for those that would be too large.
"""
PULL = 0.08
"""What agreement with the encoder weighs. It knows what the prior expects, and calms digits that would flicker."""
LEARNING_RATE = 0.1
MOMENTUM = 0.8
TOKENS = 8_192
"""Tokens that are searched for together: a gradient takes 80 kB for each of them."""


@torch.inference_mode(False)
def search_codes(
    model: Tokenizer,
    pixels: Tensor,
    bits: int,
    prior: Prior,
    steps: int,
    weight: float = WEIGHTS_OF_A_BIT[0],
    seed: int = 0,
) -> Codes:
    """Codes (1, T, h, w, bits) of pixels (1, 3, T, H, W) in [−1, 1], or of a picture (1, 3, H, W), after `steps` steps
    of search; those of the encoder if nothing better was found.

    Distortion + `weight` · bits a token is what is made less. Only the learned prior has gradients; of any other the
    bits do not steer the search, though they count in the end.

    Raises SettingsError for codes whose digits are not binary and for a decoder with learned positions.
    """
    pixels = as_clip(pixels).clone()  # of an inference mode around us, perhaps, which gradients may not touch
    first, search = model.encode(pixels, bits), Search(model, pixels, bits, prior, weight)
    last = search.codes(search.run(steps, np.random.default_rng(seed)))
    return last if search.cost(last) < search.cost(first) else first


def check_steps(steps: int) -> None:
    """Raises SettingsError for what is no number of steps."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise SettingsError(f"search is a number of steps, 0 or more, got {steps!r}")


class Search:
    """One clip's: `start` (1, T, h, w, L), the encoder's latent with digits of size 1 at the mean."""

    def __init__(self, model: Tokenizer, pixels: Tensor, bits: int, prior: Prior, weight: float) -> None:
        self.corner = corner_of(model.quantizer, "search")
        if tiling_of(model.settings.decoder) is not None:
            raise SettingsError("search is for decoders that take any grid; this one has learned positions")
        self.model, self.prior, self.weight = model, prior, weight
        self.bits = model.check_bits(bits)
        latent = model.latent(pixels)
        self.start = latent / latent.square().mean(-1, keepdim=True).sqrt()
        self.device = latent.device
        self.pixels = pixels.to(self.device)
        self.decoder = copy.deepcopy(model.decoder).requires_grad_(False)  # the model's own may be in training
        self.counter = Counter(prior, bits, self.device) if isinstance(prior, ExactPrior) else None

    def run(self, steps: int, draw: np.random.Generator) -> Tensor:
        """Signs ±1 in the shape of `start`, zeros behind the first `bits`."""
        signs = torch.where(self.start > 0, 1.0, -1.0)
        signs[..., self.bits :] = 0
        rows, columns = signs.shape[2:4]
        reach = near(self.model.settings.decoder.reach(rows, columns))
        for part in cut_parts(rows, columns, reach, max(1, TOKENS // signs.shape[1])):
            signs[:, :, part.rows.own, part.columns.own] = self.run_part(part, signs, steps, draw)
        return signs

    @torch.enable_grad()
    def run_part(self, part: Part, signs: Tensor, steps: int, draw: np.random.Generator) -> Tensor:
        """What becomes of the signs of a part; those of its margins stay."""
        around = signs[:, :, part.rows.outer, part.columns.outer].clone()
        inside = ..., part.rows.inside, part.columns.inside, slice(self.bits)
        before = around[inside].clone()
        soft = self.start[:, :, part.rows.own, part.columns.own, : self.bits].clone().requires_grad_()
        down, right = part.rows.times(self.model.patch), part.columns.times(self.model.patch)
        wanted = self.pixels[..., down.outer, right.outer]
        descent = Descent()
        for step in range(steps):
            near_sign = soft.tanh()
            around = around.detach()
            around[inside] = straight_through(torch.where(soft > 0, 1.0, -1.0), near_sign, 1.0)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=halves_time(self.device)):
                loss = self.distortion(self.decoder(around * self.corner), wanted)
                if self.counter is not None:
                    loss = loss + self.weight * self.counter.bits_a_token(around[0], draw)
            loss = loss - PULL * (near_sign * before).mean()
            cooled = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2
            soft = (soft - cooled * descent.direction(*torch.autograd.grad(loss, soft))).detach().requires_grad_()
        own = signs[:, :, part.rows.own, part.columns.own].clone()
        own[..., : self.bits] = torch.where(soft.detach() > 0, 1.0, -1.0)
        return own

    def distortion(self, shown: Tensor, wanted: Tensor) -> Tensor:
        """Of what a decoder gives for whole patches, beside pixels (1, 3, T, H, W) that may lack padding."""
        height, width = wanted.shape[-2:]
        tall = min(height, width) >= TRAINING_MIN_SIDE
        settings = DISTORTION if tall else DISTORTION.model_copy(update={"ms_ssim": 0.0})
        return reconstruction_loss(shown[..., :height, :width], wanted, settings).loss

    def codes(self, signs: Tensor) -> Codes:
        return Codes((signs[..., : self.bits] > 0).to(torch.uint8), self.model.radices[: self.bits])

    @torch.no_grad()
    def cost(self, codes: Codes) -> float:
        """Distortion + weight · bits a token, as they are."""
        height, width = self.pixels.shape[-2:]
        shown = self.model.decode(codes, (height, width))
        spent = digit_lengths(self.prior, codes)
        return float(self.distortion(shown, self.pixels)) + self.weight * float(spent.sum()) / len(spent)


def near(reach: Reach) -> Reach:
    """A margin of one window: what is farther off has next to no say in a pixel, and nothing has to be exact."""
    return reach if reach.step == 1 else Reach(min(reach.margin, reach.step), reach.step)


class Descent:
    """Momentum, in units of the gradients' root mean square so far: those digits move that matter. (Adam, which moves
    all of them alike, needs twice the steps.)
    """

    def __init__(self) -> None:
        self.momentum: Tensor | float = 0.0
        self.squares, self.steps = 0.0, 0

    def direction(self, gradient: Tensor) -> Tensor:
        self.steps += 1
        self.squares += float(gradient.square().mean())
        self.momentum = MOMENTUM * self.momentum + (1 - MOMENTUM) * gradient
        size = math.sqrt(self.squares / self.steps) * (1 - MOMENTUM**self.steps)
        return self.momentum / max(size, 1e-30)


class Counter:
    """What a learned prior would spend on the first `bits` digits, with gradients."""

    def __init__(self, prior: ExactPrior, bits: int, device: torch.device) -> None:
        self.prior = thaw(prior).to(device).requires_grad_(False)
        self.bits = bits
        self.layers = [layer for layer in self.prior.layout.layers if layer.bits.start < bits]

    def bits_a_token(self, signs: Tensor, draw: np.random.Generator) -> Tensor:
        """A scalar, estimated at one random pass of every layer and frame, of signs (T, h, w, L)."""
        before = None if self.prior.memory is None else torch.cat([torch.zeros_like(signs[:1]), signs[:-1]])
        askings = []
        for layer in self.layers:
            ends = np.full(len(signs), min(self.bits, layer.bits.stop) - layer.bits.start)
            askings.append(Asking(layer, signs, before, draw_point(layer, signs, ends, draw)))
        found = zip(costs(self.prior, askings), askings, strict=True)
        return torch.stack([(cost * asking.point.weights).sum() for cost, asking in found]).sum() / len(signs)
