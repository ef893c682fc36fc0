"""Better codes by search. What enters: a picture or a group of frames. What leaves: codes of less error in their bytes.

An encoder guesses codes in one pass. Here those of one picture or clip are searched for. In a few steps it is encoded
again, corrected by what was missing (`bsq.codec.correction`). In many, gradients of what counts, distortion and coded
bits, go through decoder and prior to the digits themselves, straight through their signs (Campos et al. 2019,
arXiv:1906.01223; Yang, Bamler & Mandt 2020, arXiv:2006.04240). Any decoder of the codes shows what was found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from operator import index as whole_number

import numpy as np
import torch
from torch import Tensor

from bsq.codec.account import Account
from bsq.codec.blocks import Block, cut_blocks
from bsq.codec.correction import TRUST, corrected, mixed
from bsq.codec.distortion import DISTORTION, SQUARED, distortion, in_pieces
from bsq.codec.kept import kept_bytes
from bsq.codes import Codes
from bsq.errors import SettingsError, ShapeError
from bsq.layers.products import bfloat16_is_faster
from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings
from bsq.losses.structure import TRAINING_MIN_SIDE, pytorch_msssim
from bsq.pixels import as_clip
from bsq.prior.base import Prior
from bsq.prior.estimate import Estimate
from bsq.prior.exact import ExactPrior
from bsq.prior.lengths import digit_lengths
from bsq.quantizers import corner_of
from bsq.quantizers.base import straight_through
from bsq.tokenizer import Tokenizer

DESCENT_FROM = 10
"""Fewer steps are corrections: in so few, gradients find less."""
GROWTH, CORRECTED_GROWTH = 1.02, 1.05
"""How many times the bits of the encoder's codes may be spent: by a descent, which counts them, and by corrections."""
TRUSTS = TRUST, 0.65, 0.8
"""Weights of the encoder's latent in corrected codes, in one try after another: more of it makes fewer bits."""
WEIGHTS_OF_A_BIT = 3e-3, 4.5e-3, 7e-3
"""What a coded bit a token weighs beside distortion, in one try after another: the first makes files about as large as
the encoder's, a little smaller as a rule; the others are for those that would become too large.
"""
PULL = 0.08
"""What agreement with the encoder weighs. It knows what the prior expects, and calms digits that would flicker."""
LEARNING_RATE = 0.1
MOMENTUM = 0.8
MEMORY = 2 << 30
"""Bytes that gradients may keep."""
FEW = 1_024
"""So many tokens are searched together, whatever they take."""
PROBE, PROBE_FRAMES = 16, 4
"""Tokens of a side, and frames, of what memory is measured with; twice as many a side for large windows."""
Told = Callable[[float], None]
"""Is told what share of a search is done, of the longest it may take: it may end sooner than it seems. Where
a file is given a size, several follow one another.
"""


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
    if count >= DESCENT_FROM:
        pytorch_msssim()
    return count


def growth_of(steps: int) -> float:
    """How many times the encoder's bits a search of so many steps may spend."""
    return GROWTH if steps >= DESCENT_FROM else CORRECTED_GROWTH


class Search:
    """Codes of `bits` digits by `steps` steps of search, for one model and prior.

    Only the learned prior steers a descent by its gradients; with any other the bits count in the end alone.
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
        self.device = next(model.decoder.parameters()).device
        self.descends = self.steps >= DESCENT_FROM
        self.distortion = DISTORTION if self.descends else SQUARED  # what counts
        if self.descends:
            # A copy: the model's own may be in half precision, or in training.
            self.decoder = copy.deepcopy(model.decoder).float().requires_grad_(False)
            self.estimate = Estimate(prior, bits, self.device) if isinstance(prior, ExactPrior) else None
        self.kept: dict[int, float] = {}  # by frames: `kept_by_token`

    @torch.inference_mode(False)
    def __call__(self, pixels: Tensor, growth: float | None = None, account: Account | None = None) -> Codes:
        """Codes (1, T, h, w, bits) of pixels (1, 3, T, H, W) or (1, 3, H, W) in [−1, 1], of less distortion than the
        encoder's in at most `growth` (default: `growth_of`) times their bits; the encoder's, if no such were found.

        `account`: of these pixels, by this model, kept by a caller who asks it, too; default: bits by the priors alone.

        Raises what `Tokenizer.encode` raises, and ShapeError for a batch. LimitError where a descent's gradients would
        take too much memory.
        """
        if len(as_clip(pixels)) != 1:
            raise ShapeError(f"search takes one picture or clip at a time, got {len(pixels)}")
        account = account or Account(self.model, pixels, self.spent)
        clip, latent, first = account.clip, account.latent.float(), account.codes(self.bits)
        room = (growth_of(self.steps) if growth is None else growth) * account.bits(first)
        wrong = in_pieces(account.shown(first), clip, self.distortion)
        for found in self.attempts(clip, latent, account):
            if account.bits(found) > room:
                continue
            better = in_pieces(account.shown(found), clip, self.distortion) < wrong
            if better or self.descends:  # another descent would take as long again
                self.tell(1.0)
                return found if better else first
        return first

    def attempts(self, clip: Tensor, latent: Tensor, account: Account) -> Iterator[Codes]:
        """Codes that may be better than those of the encoder's latent, one after another of fewer bits."""
        if not self.descends:
            again = corrected(self.model, clip, latent, self.read, account.shown, self.steps, self.tell)
            for trust in TRUSTS:
                yield self.read(mixed(latent, again, trust))
            return
        # Without an estimate a bit has no gradient: every try would find the same.
        weights = WEIGHTS_OF_A_BIT if self.estimate is not None else WEIGHTS_OF_A_BIT[:1]
        for number, weight in enumerate(weights):

            def tell(done: float, before: int = number) -> None:
                self.tell((before + done) / len(weights))

            yield self.codes_of(self.descend(clip, latent, weight, tell) > 0)

    def tell(self, done: float) -> None:
        """What share of the search is done, to whom it may concern."""
        if self.told is not None:
            self.told(done)

    def read(self, latent: Tensor) -> Codes:
        """Of a latent (1, T, h, w, L)."""
        return self.codes_of(self.model.quantizer.digits(latent))

    def codes_of(self, digits: Tensor) -> Codes:
        """Of digits (1, T, h, w, L), 0 or 1, those that are kept."""
        return Codes(digits.to(torch.uint8), self.model.radices).first(self.bits)

    def spent(self, codes: Codes) -> float:
        """Bits of codes, by the prior that takes fewest."""
        return min(float(digit_lengths(prior, codes).sum()) for prior in (self.prior, *self.others))

    def descend(self, clip: Tensor, latent: Tensor, weight: float, tell: Told) -> Tensor:
        """Signs (1, T, h, w, L), ±1 and zero behind the digits that are kept, where a descent from the encoder's latent
        ends, with that weight of a bit.
        """
        soft = latent / latent.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-30)
        signs = sign(soft)
        signs[..., self.bits :] = 0
        draw, blocks = np.random.default_rng(0), self.blocks(*signs.shape[1:4])
        for number, block in enumerate(blocks):
            place = Place(self, block, signs, clip)
            for step, found in enumerate(self.steps_of(place, soft[place.own], weight, draw), 1):
                signs[place.own] = sign(found)
                tell((number + step / self.steps) / len(blocks))
        return signs

    def steps_of(self, place: Place, soft: Tensor, weight: float, draw: np.random.Generator) -> Iterator[Tensor]:
        """What becomes of `soft`, whose signs the digits of a place are, step by step."""
        descent = Descent()
        for step in range(self.steps):
            with torch.enable_grad():
                soft = soft.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(place.loss(soft, weight, draw), soft)
            cooled = LEARNING_RATE * (1 + math.cos(math.pi * step / self.steps)) / 2
            soft = soft.detach() - cooled * descent.direction(gradient)
            yield soft

    def blocks(self, frames: int, rows: int, columns: int) -> list[Block]:
        """What is searched together, of a clip of so many tokens."""
        tokens = frames * rows * columns
        most = tokens if tokens <= FEW else int(MEMORY / self.kept_by_token(min(frames, PROBE_FRAMES)))
        return self.cut(frames, rows, columns, most)

    def cut(self, frames: int, rows: int, columns: int, most: int) -> list[Block]:
        """Blocks of at most so many tokens."""
        decoder, past = self.model.decoder, self.model.settings.decoder.window_frames
        margin = -(-TRAINING_MIN_SIDE // self.model.patch)  # so that every block has enough for MS-SSIM
        past = None if past is None else past - 1
        return cut_blocks(frames, rows, columns, decoder.reach(rows, columns), margin, past, most)

    def kept_by_token(self, frames: int) -> float:
        """Bytes that gradients keep for one token more: measured, for they depend on decoder, prior and processor."""
        if frames not in self.kept:
            side = self.probe()
            more = self.kept_by(frames, side, 2 * side) - self.kept_by(frames, side, side)
            self.kept[frames] = more / (frames * side * side)
        return self.kept[frames]

    def probe(self) -> int:
        """Tokens of a side that show what masks and shifted windows keep."""
        match self.model.settings.decoder.attention:
            case WindowAttentionSettings(size=size):
                return PROBE if 2 * size <= PROBE else 2 * PROBE
            case FullAttentionSettings():
                return PROBE

    def kept_by(self, frames: int, rows: int, columns: int) -> int:
        """Bytes that the gradients of a clip of so many tokens keep."""
        patch, digits = self.model.patch, len(self.model.radices)
        size = rows * patch, columns * patch
        clip = torch.zeros(1, 3, frames, *size, dtype=torch.float32, device=self.device)
        signs = torch.ones(1, frames, rows, columns, digits, dtype=torch.float32, device=self.device)
        (block,) = self.cut(frames, rows, columns, frames * rows * columns)
        place = Place(self, block, signs, clip)
        soft = signs[place.own].requires_grad_()
        weights = [*self.decoder.parameters(), *([] if self.estimate is None else self.estimate.prior.parameters())]
        with torch.enable_grad():
            return kept_bytes(lambda: place.loss(soft, 1.0, np.random.default_rng(0)), weights)


class Place:
    """A block at work: its digits, those around them, and what they should show."""

    def __init__(self, search: Search, block: Block, signs: Tensor, clip: Tensor) -> None:
        """`signs` (1, T, h, w, L) of the whole clip, and its pixels (1, 3, T, H, W)."""
        frames, rows, columns = block.frames, block.part.rows, block.part.columns
        kept = slice(search.bits)
        self.search, self.frames = search, frames.inside
        self.own = slice(None), frames.own, rows.own, columns.own, kept
        self.inside = slice(None), frames.inside, rows.inside, columns.inside, kept
        self.around = signs[:, frames.outer, rows.outer, columns.outer].clone()
        self.first = self.around[self.inside].clone()
        down, right = rows.times(search.model.patch), columns.times(search.model.patch)
        self.wanted = clip[:, :, frames.own, down.outer, right.outer]
        self.pull = PULL / self.around[:, frames.inside, ..., kept].numel()

    def loss(self, soft: Tensor, weight: float, draw: np.random.Generator) -> Tensor:
        """What the signs of `soft` cost here: distortion, bits of that weight, and disagreement with the encoder."""
        search, near_sign, around = self.search, soft.tanh(), self.around.detach()
        around[self.inside] = straight_through(sign(soft), near_sign, 1.0)
        with torch.autocast(search.device.type, torch.bfloat16, enabled=bfloat16_is_faster(search.device)):
            shown = search.decoder(around * search.corner)[:, :, self.frames]
            loss = distortion(shown, self.wanted) - self.pull * (near_sign * self.first).sum()
            if search.estimate is not None:
                loss = loss + weight * search.estimate.bits_a_token(around[0], self.frames, draw)
        return loss


def sign(soft: Tensor) -> Tensor:
    """±1, float32; what is zero counts as negative."""
    return (soft > 0).float() * 2 - 1


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
