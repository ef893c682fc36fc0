"""Inception score (arXiv:1606.03498). What enters: class probabilities. What leaves: exp of their mean divergence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bsq.errors import DataError, NumericsError, ShapeError


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over splits; 1 at least, the number of classes at most."""

    mean: float
    deviation: float  # between splits (divided by their number); 0 for one
    splits: int
    pictures: int


def inception_score(probabilities: Tensor, splits: int = 1) -> InceptionScore:
    """exp(mean over x of KL(p(y|x) ‖ p(y))), for `splits` runs of rows of equal length (the last ones one row shorter).

    `probabilities`: (N, K), rows that sum to 1, in the order in which they are split; one split knows no order.
    Published scores use 10 splits, or runs of 5,000 (ADM, 10 of them for 50,000). Raises ShapeError, NumericsError,
    DataError for fewer rows than splits.
    """
    rows = _checked(probabilities)
    if splits < 1 or len(rows) < splits:
        raise DataError(f"an inception score of {splits} splits needs as many pictures, got {len(rows)}")
    scores = torch.stack([_score(part) for part in torch.tensor_split(rows, splits)])
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0)), splits, len(rows))


def _score(rows: Tensor) -> Tensor:
    """exp(H(p(y)) − mean H(p(y|x))); 0 log 0 is 0."""
    marginal = rows.mean(0)
    return (torch.xlogy(rows, rows).sum(1).mean() - torch.xlogy(marginal, marginal).sum()).exp()


def _checked(probabilities: Tensor) -> Tensor:
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ShapeError(f"expected probabilities (N, K), none of them empty; got {tuple(probabilities.shape)}")
    rows = probabilities.detach().double()
    if not bool(rows.isfinite().all()):
        raise NumericsError("the probabilities hold NaN or infinity")
    if float(rows.min()) < 0 or float((rows.sum(1) - 1).abs().max()) > 1e-3:
        raise NumericsError("probabilities must be 0 or more and sum to 1 in every row; are these logits?")
    return rows
