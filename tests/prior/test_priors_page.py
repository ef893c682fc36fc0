"""The masked prior once more, from docs/priors.md alone: int64 NumPy, whole grids, nothing of `bsq.prior` but data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from bsq.prior.base import Grid
from bsq.prior.freeze import freeze
from bsq.prior.sparse import SparsePrior


@dataclass(frozen=True)
class Asked:
    """What the page says is asked: these tokens of the clip, this bit, with these frequencies."""

    tokens: np.ndarray
    bit: int
    frequencies: np.ndarray


@dataclass(frozen=True)
class Stranger:
    """`settings` as in prior.json, `weights` as in prior.safetensors; binary digits only."""

    settings: dict
    weights: dict[str, np.ndarray]

    def questions(self, grid: Grid, truth: np.ndarray) -> Iterator[Asked]:
        """All questions on digits `truth` (N, bits), 0 or 1, in order."""
        bits, step, passes = truth.shape[1], self.settings["layer_digits"], self.settings["passes"]
        size, before = grid.height * grid.width, None
        for frame, digits in enumerate(2 * truth.reshape(grid.frames, size, bits) - 1):
            known = np.zeros_like(digits)
            for number, start in enumerate(range(0, bits, step)):
                order = pass_of_tokens(grid.height, grid.width, passes[min(number, len(passes) - 1)])
                for tokens in (np.flatnonzero(order == p) for p in np.unique(order)):
                    state = self.state(known, before, grid)[tokens]
                    for bit in range(start, min(start + step, bits)):
                        yield Asked(tokens + frame * size, bit, self.frequencies(state, bit))
                        known[tokens, bit] = digits[tokens, bit]
                        state = state + known[tokens, bit, None] * self.weights["chain_in"][bit]
            before = digits

    def state(self, known: np.ndarray, before: np.ndarray | None, grid: Grid) -> np.ndarray:
        ones, firsts = np.ones((len(known), 1), np.int64), known[:, :: self.settings["layer_digits"]]
        side = self.settings["window"]
        hidden = self.layer("window", square(np.concatenate([known, abs(firsts), ones], 1), grid, side))
        if self.settings["earlier_frames"] and before is not None:
            hidden = hidden + self.layer("memory", square(np.concatenate([before, ones], 1), grid, side))
        for i in range(self.settings["blocks"]):
            inner = self.layer(f"gathers.{i}", square(np.clip(hidden + 8 >> 4, 0, 127), grid, 3))
            hidden = hidden + self.layer(f"mixes.{i}", np.clip(inner, 0, 127))
        return self.layer("condition_head", np.clip(hidden + 8 >> 4, 0, 127)) + known @ self.weights["chain_in"]

    def frequencies(self, state: np.ndarray, bit: int) -> np.ndarray:
        logits = self.layer("chain_out", np.clip(state, 0, 511))[:, bit]
        return self.weights["table"][np.clip(logits, -1024, 1023) + 1024]

    def layer(self, name: str, rows: np.ndarray) -> np.ndarray:
        weight, bias, multiplier, shift = (
            self.weights[f"{name}.{part}"] for part in ("weight", "bias", "multiplier", "shift")
        )
        return (rows @ weight.T + bias) * multiplier + (1 << shift - 1) >> shift


def pass_of_tokens(height: int, width: int, passes: int) -> np.ndarray:
    """(N,) the quincunx pass of each token."""
    return np.array([pass_of(y, x, passes - 1) for y in range(height) for x in range(width)])


def pass_of(y: int, x: int, last: int) -> int:
    if last <= 0 or (y + x) % 2:
        return max(last, 0)
    if last == 1 or y % 2:
        return last - 1
    return pass_of(y // 2, x // 2, last - 2)


def square(rows: np.ndarray, grid: Grid, side: int) -> np.ndarray:
    """The rows of side×side neighbours one after another; zeros outside the grid."""
    around = side // 2
    padded = np.pad(rows.reshape(grid.height, grid.width, -1), ((around, around), (around, around), (0, 0)))
    shifted = [padded[i : i + grid.height, j : j + grid.width] for i in range(side) for j in range(side)]
    return np.concatenate(shifted, 2).reshape(len(rows), -1)


@pytest.mark.parametrize("earlier_frames", [0, 1])
@pytest.mark.parametrize("grid", [Grid(2, 7, 6), Grid(1, 9, 13), Grid(2, 1, 1)], ids=str)
def test_the_page_is_enough_to_ask_the_same(
    make_prior: Callable, converse: Callable, correlated: Callable, earlier_frames: int, grid: Grid
) -> None:
    prior = freeze(make_prior(earlier_frames=earlier_frames))
    weights = {name: tensor.numpy().astype(np.int64) for name, tensor in prior.weights.tensors().items()}
    truth = correlated(grid, (2,) * 12)
    asked = list(Stranger(prior.settings.model_dump(), weights).questions(grid, truth))
    questions = converse(prior, grid, (2,) * 12, truth).questions
    assert len(asked) == len(questions)
    for mine, theirs in zip(asked, questions, strict=True):
        assert mine.bit == theirs.digit
        assert np.array_equal(mine.tokens, theirs.tokens)
        assert np.array_equal(mine.frequencies, theirs.frequencies)


def sparse_frequencies(grid: Grid, radices: tuple[int, ...], truth: np.ndarray) -> Iterator[Asked]:
    """The sparse prior's questions on digits `truth` (N, digits) of one frame, from the page, one token at a time."""
    sizes, order = (truth + 1) // 2, pass_of_tokens(grid.height, grid.width, 6)
    for digit, radix in enumerate(radices):
        zeros = {(a, b): (29, 16, 10, 6, 3, 2)[a] for a in range(6) for b in range(3)}
        others, ended, went_on = dict.fromkeys(zeros, 3), [4, 4], [4, 4]
        known: set[int] = set()
        for passed in np.unique(order):
            whole = np.flatnonzero(order == passed)
            for tokens in (whole[i : i + 96] for i in range(0, len(whole), 96)):
                contexts = [sparse_context(grid, sizes, known, int(token), digit) for token in tokens]
                rows = []
                for context in contexts:
                    row, spare = [1] * radix, 2**16 - radix
                    row[0] += spare * zeros[context] // (zeros[context] + others[context])
                    rest = spare - row[0] + 1
                    for size in range(1, radix // 2 + 1):
                        kind = 0 if size == 1 else 1
                        part = rest * ended[kind] // (ended[kind] + went_on[kind]) if size < radix // 2 else rest
                        row[2 * size - 1] += part - part // 2
                        row[2 * size] += part // 2
                        rest -= part
                    rows.append(row)
                yield Asked(tokens, digit, np.array(rows))
                for token, context in zip(tokens, contexts, strict=True):
                    size = int(sizes[token, digit])
                    (others if size else zeros)[context] += 8
                    ended[0] += 8 * (size == 1)
                    went_on[0] += 8 * (size > 1)
                    ended[1] += 8 * (size > 1)
                    went_on[1] += 8 * max(0, size - 2)
                known |= set(tokens.tolist())


def sparse_context(grid: Grid, sizes: np.ndarray, known: set[int], token: int, digit: int) -> tuple[int, int]:
    row, column = divmod(token, grid.width)
    total = worth = 0
    for down in range(-2, 3):
        for across in range(-2, 3):
            steps = {(0, 1): 2, (1, 1): 1, (0, 2): 1}.get((min(abs(down), abs(across)), max(abs(down), abs(across))), 0)
            there = 0 <= row + down < grid.height and 0 <= column + across < grid.width
            other = (row + down) * grid.width + column + across
            if steps and there and other in known:
                total += steps * min(int(sizes[other, digit]), 3)
                worth += steps
    mean = 24 * total // max(worth, 4)
    return sum(bound <= mean for bound in (1, 4, 6, 10, 18)), min(int(sizes[token, :digit].sum()), 2)


@pytest.mark.parametrize("radices", [(3, 3, 3), (9, 3, 255)])
def test_the_sparse_prior_from_the_page(converse: Callable, radices: tuple[int, ...]) -> None:
    grid, draw = Grid(1, 17, 29), np.random.default_rng(0)
    there = draw.random((grid.tokens, 3)) < 0.2
    digits = np.stack([draw.integers(radix, size=grid.tokens) for radix in radices], 1) * there
    ours = converse(SparsePrior(), grid, radices, digits).questions
    for question, asked in zip(ours, sparse_frequencies(grid, radices, digits), strict=True):
        assert question.digit == asked.bit
        assert question.chunk == 0
        assert np.array_equal(question.tokens, asked.tokens)
        assert np.array_equal(question.frequencies, asked.frequencies)
