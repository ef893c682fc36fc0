"""A prior that learns while it codes. What enters: a grid and radices. What leaves: questions, integers throughout.

Logistic mixing as in the PAQ compressors, for codes of tokenizers that have no trained prior. Binary digits are coded
one after another over the whole grid, frame by frame, each in quincunx passes; so every earlier digit of every token is
known, and of the digit itself the earlier frames and passes. Five small models each give an opinion in the logistic
domain (1/256 nat); a mixer weighs them. All of them learn after every batch of tokens, in integers.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from bsq.prior.base import Conversation, Grid, Question
from bsq.prior.layout import code_bits, make_layout, split_frequencies
from bsq.prior.places import NEIGHBOURS, PASSES, Places

BATCH = 192
CHUNK_DIGITS = 9
LARGEST_TREE = 16  # digits of larger radix are counted, not split into binary digits
STRETCH_MAX = 2047
ONE = 1 << 16  # weights and probabilities are in 1/65536
MIXER_RATE, LINEAR_RATE = 10, 5  # right shifts: larger learns slower
RECENT_DIGITS = 6
TABLE_SIZES = (3**5, 1 << RECENT_DIGITS, 33 * 3, 9**3)
OPINIONS = len(TABLE_SIZES) + 2


class AdaptivePrior:
    """Learns the statistics of one picture from its own codes; knows nothing before the first."""

    name = "adaptive"
    identity = b"adapt\0\0\1"
    portable = True

    def converse(self, grid: Grid, radices: tuple[int, ...]) -> Conversation:
        """Ask for every digit, most important first; a chunk holds nine digits."""
        layout = make_layout(radices, CHUNK_DIGITS, (PASSES,))
        places = Places(grid)
        signs = np.zeros((grid.tokens + 1, layout.bits), np.int64)
        mixer = Mixer()
        for digit, radix in enumerate(radices):
            chunk, span = digit // CHUNK_DIGITS, layout.digit_span(digit)
            if radix > LARGEST_TREE:
                values = yield from count_digit(places, digit, radix, chunk)
                signs[:-1, span.start : span.stop] = 2 * code_bits(values[:, None], (radix,)).astype(np.int64) - 1
                continue
            models = [mixer.new_model(bit) for bit in span]
            for tokens in places.batches(BATCH):
                looks = [look_around(signs, tokens, places, bit) for bit in span]
                root = mixer.opinions(models[0], looks[0])
                frequencies = ask_tree(models, mixer, looks, root, radix)
                digits = yield Question(tokens, digit, frequencies, chunk)
                bits = code_bits(np.asarray(digits)[:, None], (radix,)).astype(np.int64)
                signs[tokens, span.start : span.stop] = 2 * bits - 1
                for i, model in enumerate(models):
                    look = looks[i].after(bits[:, :i])
                    mixer.learn(model, look, mixer.opinions(model, look) if i else root, bits[:, i])
            mixer.keep(models[0])


@dataclass(frozen=True)
class Look:
    """What is known around n tokens about one binary digit.

    earlier (n, bit) ±1, the token's earlier binary digits; 0 where the same digit's first binary digits are still asked
    around  (n, 13) ±1, or 0 if unknown: this binary digit of the neighbours
    tables  (n, 4) the row of each context table
    """

    bit: int
    earlier: np.ndarray
    around: np.ndarray
    tables: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """(n, bit + 14): all that the linear model sees, and a constant."""
        return np.concatenate([self.earlier, self.around, np.ones((len(self.around), 1), np.int64)], axis=1)

    def after(self, prefix: np.ndarray) -> Look:
        """The same, with the first binary digits of this very digit, (n, k) 0 or 1, filled in."""
        if not prefix.shape[1]:
            return self
        earlier, tables = self.earlier.copy(), self.tables.copy()
        earlier[:, self.bit - prefix.shape[1] :] = 2 * prefix - 1
        tables[:, 1] = recent_context(earlier)
        return Look(self.bit, earlier, self.around, tables)


def look_around(signs: np.ndarray, tokens: np.ndarray, places: Places, bit: int) -> Look:
    """Contexts of binary digit `bit` of `tokens` from the signs (N + 1, bits) known so far."""
    neighbours = places.neighbours[tokens]
    around, earlier = signs[neighbours, bit], signs[tokens, :bit]
    near, diagonal, far = around[:, :4].sum(1), around[:, 4:8].sum(1), around[:, 8:12].sum(1)
    pattern = (around[:, [0, 1, 2, 3, 12]] + 1) @ 3 ** np.arange(5)
    similarity = np.full((len(tokens), 8), 64)
    if bit:
        similarity = np.einsum("nkd,nd->nk", signs[neighbours[:, :8], :bit], earlier) * 256 // bit
    trust = np.maximum(similarity + 32, 8)
    vote = (trust * trust // 256 * around[:, :8]).sum(1) // 32
    known = np.clip(np.abs(around[:, :4]).sum(1) // 2, 0, 2)
    tables = [pattern, recent_context(earlier), np.clip(vote + 16, 0, 32) * 3 + known]
    tables.append(((near + 4) * 9 + diagonal + 4) * 9 + far + 4)
    return Look(bit, earlier, around, np.stack(tables, axis=1))


def recent_context(earlier: np.ndarray) -> np.ndarray:
    """(n,) the last six binary digits of each row as one number."""
    recent = earlier[:, -RECENT_DIGITS:] > 0
    return recent @ (1 << np.arange(recent.shape[1]))


@dataclass
class BitModel:
    """What has been learnt about one binary digit: counts of 0 and 1 in each context, and weights of known digits."""

    linear: np.ndarray
    tables: list[np.ndarray] = field(default_factory=lambda: [np.zeros((size, 2), np.int64) for size in TABLE_SIZES])


class Mixer:
    """Weighs the opinions of the models of a binary digit. Everything in this class is an integer region."""

    def __init__(self) -> None:
        self.weights = np.full(OPINIONS, ONE * 3 // 10, np.int64)
        self.neighbour_weights = np.zeros(NEIGHBOURS + 1, np.int64)

    def new_model(self, bit: int) -> BitModel:
        """A model that has seen nothing but starts from what neighbours meant for the digit before."""
        return BitModel(np.concatenate([np.zeros(bit, np.int64), self.neighbour_weights]))

    def keep(self, model: BitModel) -> None:
        """Remember what neighbours meant."""
        self.neighbour_weights = model.linear[-NEIGHBOURS - 1 :]

    def opinions(self, model: BitModel, look: Look) -> np.ndarray:
        """(n, OPINIONS) logits in 1/256 nat: one a context table, one linear in the known digits, one constant."""
        counts = [table[context] for table, context in zip(model.tables, look.tables.T, strict=True)]
        ones, both = np.stack([c[:, 1] for c in counts], 1), np.stack([c.sum(1) for c in counts], 1)
        logits = np.empty((len(look.around), OPINIONS), np.int64)
        logits[:, : len(counts)] = stretch((2 * ones + 1) * (ONE // 2) // (both + 1))
        logits[:, -2] = np.clip(look.inputs @ model.linear >> 16, -STRETCH_MAX, STRETCH_MAX)
        logits[:, -1] = 64
        return logits

    def probability(self, opinions: np.ndarray) -> np.ndarray:
        """p(binary digit = 1)·2^16, (n,) int64 in 21 … 65515."""
        return squash(opinions @ self.weights >> 16)

    def learn(self, model: BitModel, look: Look, opinions: np.ndarray, bits: np.ndarray) -> None:
        """One step of gradient descent on the code length of `bits` (n,) 0 or 1, and new counts."""
        error = bits * ONE - self.probability(opinions)
        self.weights = self.weights + (error @ opinions // len(bits) >> MIXER_RATE)
        error = bits * ONE - squash(opinions[:, -2])
        model.linear = model.linear + (error @ look.inputs * 256 // len(bits) >> LINEAR_RATE)
        for table, context in zip(model.tables, look.tables.T, strict=True):
            table += np.bincount(2 * context + bits, minlength=table.size).reshape(table.shape)


def ask_tree(models: list[BitModel], mixer: Mixer, looks: list[Look], root: np.ndarray, radix: int) -> np.ndarray:
    """Frequencies of a digit, as a `Question` holds them, from the probabilities of its binary digits."""
    columns = [mixer.probability(root)]
    if radix == 2:
        return columns[0].astype(np.uint16)
    for level in range(1, len(models)):
        for prefix in range(1 << level):
            bits = np.array([prefix >> i & 1 for i in reversed(range(level))], np.int64)
            look = looks[level].after(np.broadcast_to(bits, (len(root), level)))
            columns.append(mixer.probability(mixer.opinions(models[level], look)))
    return split_frequencies(np.stack(columns, axis=1), radix)


def count_digit(places: Places, digit: int, radix: int, chunk: int) -> Generator[Question, np.ndarray, np.ndarray]:
    """Ask for a digit of large radix; expect what was frequent so far and what neighbours have. Returns (N,) values."""
    values = np.full(places.grid.tokens + 1, -1, np.int64)
    counts, hits, asked = np.zeros(radix, np.int64), 1, 8
    for tokens in places.batches(max(1, min(BATCH, (1 << 21) // radix))):
        around = values[places.neighbours[tokens][:, [0, 1, 2, 3, 12]]]
        frequencies = mix_counts(counts, around, hits, asked)
        answers = np.asarray((yield Question(tokens, digit, frequencies, chunk)))
        values[tokens] = answers
        np.add.at(counts, answers, 1)
        hits += int((around == answers[:, None]).sum())
        asked += int((around >= 0).sum())
    return values[:-1]


def mix_counts(counts: np.ndarray, around: np.ndarray, hits: int, asked: int) -> np.ndarray:
    """(n, K) uint32 rows that sum to 2^16, each entry at least 1.

    counts (K,) of each value so far · around (n, k) values of neighbours, −1 unknown · of `asked` known neighbours,
    `hits` had the value in question.
    """
    radix = len(counts)
    spare = ONE - radix
    each = spare * hits // asked // around.shape[1]
    base = 1 + (spare - each * around.shape[1]) * (16 * counts + 1) // (16 * counts.sum() + radix)
    rows = np.repeat(base[None], len(around), axis=0)
    for column in around.T:
        known = column >= 0
        rows[known, column[known]] += each
    # What division left over goes to the most frequent value.
    rows[:, int(counts.argmax())] += ONE - rows.sum(1)
    return rows.astype(np.uint32)


@lru_cache(maxsize=1)
def squash_table() -> np.ndarray:
    """(4095,) int64: 2^16 / (1 + exp(−i/256)) for i = −2047 … 2047. Decimal arithmetic rounds alike everywhere."""
    with localcontext() as context:
        context.prec = 20
        exponentials = [(Decimal(-i) / 256).exp() for i in range(-STRETCH_MAX, STRETCH_MAX + 1)]
        return np.array([int(ONE / (1 + e)) for e in exponentials], np.int64)


@lru_cache(maxsize=1)
def stretch_table() -> np.ndarray:
    """(4096,) int64: the logit of p = (i + ½) / 4096 in 1/256 nat, the inverse of `squash_table`."""
    return np.searchsorted(squash_table(), np.arange(4096, dtype=np.int64) * 16 + 8) - STRETCH_MAX


def squash(logit: np.ndarray) -> np.ndarray:
    """Logits in 1/256 nat → probabilities in 1/65536."""
    return squash_table()[np.clip(logit, -STRETCH_MAX, STRETCH_MAX) + STRETCH_MAX]


def stretch(probability: np.ndarray) -> np.ndarray:
    """Probabilities in 1/65536 → logits in 1/256 nat."""
    return stretch_table()[probability >> 4]
