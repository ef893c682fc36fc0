"""What codes cost by a prior. What enters: codes, or a question and its answer. What leaves: ideal lengths."""

from __future__ import annotations

import numpy as np

from bsq.codes import Codes
from bsq.prior.base import TOTAL_FREQUENCY, Grid, Prior, is_one_row, reply


def code_lengths(frequencies: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Bits (n,) float64 of digits (n,) by the frequencies of a `Question`: −log2 of what was expected of each."""
    if frequencies.ndim == 1:
        expected = np.where(digits == 1, frequencies, TOTAL_FREQUENCY - frequencies.astype(np.int64))
    elif is_one_row(frequencies):
        expected = frequencies[0][digits]
    else:
        expected = frequencies[np.arange(len(digits)), digits]
    return np.log2(TOTAL_FREQUENCY) - np.log2(expected)


def digit_lengths(prior: Prior, codes: Codes) -> np.ndarray:
    """Bits (T·h·w, L) float64 that each digit of codes (1, T, h, w, L) costs, asked for as a coder asks."""
    digits = codes.digits.reshape(-1, codes.length).cpu().numpy()
    spent = np.zeros(digits.shape)
    conversation = prior.converse(Grid(*codes.shape[1:4]), codes.radices)
    question = next(conversation, None)
    while question is not None:
        answer = digits[question.tokens, question.digit].astype(np.int64)
        spent[question.tokens, question.digit] = code_lengths(question.frequencies, answer)
        question = reply(conversation, answer)
    return spent
