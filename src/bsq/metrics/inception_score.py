"""Inception score (arXiv:1606.03498). What enters: logits of pictures. What leaves: a score and its spread.

exp of the mean over pictures of KL(p(y|x) ‖ p(y)), in float64. Pictures are dealt to splits in the order given; rows of
a `RowStore` lie in the order of their hashes, which is as good as drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bsq.errors import DataError, NumericsError, ShapeError

SPLITS = 10


@dataclass(frozen=True)
class InceptionScore:
    """1 … number of classes. Scores grow with the number of pictures in a split."""

    mean: float
    deviation: float  # over splits, by their number; 0 with one split
    splits: int
    pictures: int


def inception_score(logits: np.ndarray, splits: int = SPLITS) -> InceptionScore:
    """Logits (N, K), up to a constant a row. Split s holds rows s·N/splits … (s + 1)·N/splits, as usual.

    Raises ShapeError, NumericsError, or DataError when there are fewer pictures than splits.
    """
    if logits.ndim != 2 or not logits.shape[1]:
        raise ShapeError(f"expected logits (N, K), got {logits.shape}")
    if splits < 1 or len(logits) < splits:
        raise DataError(f"an inception score over {splits} splits needs as many pictures, got {len(logits)}")
    if not np.isfinite(logits).all():
        raise NumericsError("logits hold NaN or infinity")
    bounds = [s * len(logits) // splits for s in range(splits + 1)]
    scores = [_score(logits[begin:end]) for begin, end in pairwise(bounds)]
    mean = math.fsum(scores) / splits
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / splits)
    return InceptionScore(mean, deviation, splits, len(logits))


def _score(logits: np.ndarray) -> float:
    logs = logits - logits.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    chances = np.exp(logs)
    whole = chances.mean(0)
    safe = np.log(np.where(whole > 0, whole, 1.0))
    return math.exp(math.fsum((chances * (logs - safe)).sum(1)) / len(logits))
