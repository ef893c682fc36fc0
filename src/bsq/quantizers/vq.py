"""Vector quantization. What enters: a latent (…, D). What leaves: the nearest of K vectors, one digit of radix K.

VQ-VAE, arXiv:1711.00937; the moving-average update is that of its Appendix A.1, cosine codes are ViT-VQGAN's
(arXiv:2110.04627). Under data parallel all processes hold the same codebook: statistics are summed over processes, and
the vectors that replace dead codes come from process 0.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from bsq.quantizers.base import (
    Quantized,
    Quantizer,
    QuantizerTerms,
    all_reduced_mean,
    digit_dtype,
    float32_island,
    is_distributed,
    require_finite,
    require_finite_if_free,
    straight_through,
)
from bsq.settings import Settings

# Distances held at once while looking for the nearest code.
DISTANCES_AT_ONCE = 2**24
# A code's use below which its moving average is all rounding; it keeps its vector.
LEAST_USE = 1e-10


class VqSettings(Settings):
    """`size` K and `width` D of the codebook; `update` of it by the codebook loss or by moving averages with `decay`;
    nearest by `metric`; a code used less than `revive_below` times as often as the average code is replaced."""

    training_only: ClassVar[frozenset[str]] = frozenset({"update", "decay", "revive_below"})

    kind: Literal["vq"] = "vq"
    size: int = Field(default=1024, ge=2, le=2**20)
    width: int = Field(default=32, ge=1)
    update: Literal["gradient", "ema"] = "ema"
    metric: Literal["euclidean", "cosine"] = "euclidean"
    decay: float = Field(default=0.99, ge=0, lt=1)
    revive_below: float = Field(default=0.01, ge=0, lt=1)


class VQ(Quantizer):
    """Vector quantizer. `use` (K,) is the moving average of each code's share of tokens."""

    codebook: Tensor
    use: Tensor
    sums: Tensor

    def __init__(self, settings: VqSettings) -> None:
        super().__init__()
        self.settings = settings
        self.latent_width = self.code_width = settings.width
        self.radices = (settings.size,)
        vectors = torch.randn(settings.size, settings.width) / settings.width**0.5
        self.register_buffer("use", torch.full((settings.size,), 1 / settings.size))
        match settings.update:
            case "gradient":
                self.codebook = nn.Parameter(vectors)
            case "ema":
                self.register_buffer("codebook", vectors)
                self.register_buffer("sums", vectors / settings.size)

    def forward(self, latent: Tensor, kept: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`. Terms: commitment and, for gradient updates, codebook: means over all elements.

        In training mode with gradients on, the codebook's statistics move and dead codes are replaced.
        """
        self.check_latent(latent, kept)
        learning = self.training and torch.is_grad_enabled()
        with float32_island(latent):
            z = self.normalise(latent.float())
            flat = z.detach().reshape(-1, self.latent_width)
            # First of all: a bad latent must not get into the codebook. Infinity and NaN both survive a sum.
            require_finite_if_free(flat.sum())
            if learning:
                self.revive(flat)
            digits = self.nearest(flat).reshape(*latent.shape[:-1], 1)
            code = self.lookup(digits)
            quantized = straight_through(code.detach(), z)
            share = torch.bincount(digits.reshape(-1), minlength=self.settings.size) / max(1, len(flat))
            terms = QuantizerTerms.build(
                z.device,
                commitment=F.mse_loss(z, code.detach()),
                code_entropy=torch.special.entr(share).sum(),
                **self.codebook_terms(code, z),
            )
            if learning:
                self.follow(flat, digits.reshape(-1), share)
        return Quantized(quantized.to(latent.dtype), digits.to(digit_dtype(self.radices)), terms)

    def codebook_terms(self, code: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The loss that moves the codebook, if a loss moves it."""
        match self.settings.update:
            case "gradient":
                return {"codebook": F.mse_loss(code, z.detach())}
            case "ema":
                return {}

    @torch.no_grad()
    def digits(self, latent: Tensor) -> Tensor:
        """See `Quantizer.digits`; one digit."""
        self.check_latent(latent)
        require_finite(latent)
        with float32_island(latent):
            flat = self.normalise(latent.float()).reshape(-1, self.latent_width)
            return self.nearest(flat).reshape(*latent.shape[:-1], 1).to(digit_dtype(self.radices))

    def lookup(self, digits: Tensor) -> Tensor:
        """See `Quantizer.lookup`; the codebook's own vectors (unit vectors for cosine)."""
        self.check_digits(digits)
        return F.embedding(digits.squeeze(-1).long(), self.normalise(self.codebook.float()))

    def normalise(self, vectors: Tensor) -> Tensor:
        """Vectors (…, D) as the metric compares them."""
        match self.settings.metric:
            case "euclidean":
                return vectors
            case "cosine":
                return F.normalize(vectors, dim=-1)

    @torch.no_grad()
    def nearest(self, flat: Tensor) -> Tensor:
        """Normalised latents (N, D) → int64 (N,) indices of the nearest codes, the lowest of equally near ones."""
        codebook = self.normalise(self.codebook.float())
        offset = codebook.square().sum(-1)
        step = max(1, DISTANCES_AT_ONCE // len(codebook))
        # ‖z − c‖² without ‖z‖², the same for all codes.
        parts = [torch.addmm(offset, part, codebook.T, alpha=-2).argmin(-1) for part in flat.split(step)]
        return torch.cat(parts)

    @torch.no_grad()
    def follow(self, flat: Tensor, index: Tensor, share: Tensor) -> None:
        """Move the averages towards this batch (all processes together) and, for EMA, the codebook with them.

        A batch with a latent that is no number anywhere leaves them as they are.
        """
        fine = all_reduced_mean(flat.isfinite().all().float()) == 1
        flat = torch.where(fine, flat, 0)
        step = (1 - self.settings.decay) * fine
        self.use.lerp_(all_reduced_mean(share), step)
        if self.settings.update == "ema":
            sums = torch.zeros_like(self.sums).index_add_(0, index, flat) / max(1, len(flat))
            self.sums.lerp_(all_reduced_mean(sums), step)
            used = (self.use > LEAST_USE)[:, None]
            self.codebook.copy_(torch.where(used, self.sums / self.use[:, None].clamp(min=LEAST_USE), self.codebook))

    @torch.no_grad()
    def revive(self, flat: Tensor) -> None:
        """Put random latents of this batch in place of codes that are hardly used, with the average code's use."""
        size = self.settings.size
        if self.settings.revive_below == 0 or not len(flat):
            return
        dead = (self.use * size < self.settings.revive_below)[:, None]
        fresh = flat[torch.randint(len(flat), (size,), device=flat.device)]
        if is_distributed():
            dist.broadcast(fresh, src=0)
        dead = dead & fresh.isfinite().all(-1, keepdim=True)
        # Over all rows with `where`: asking how many are dead would wait for the device. Optimizer state is left alone.
        self.codebook.copy_(torch.where(dead, fresh, self.codebook))
        if self.settings.update == "ema":
            self.sums.copy_(torch.where(dead, fresh / size, self.sums))
        self.use.masked_fill_(dead[:, 0], 1 / size)
