import itertools
import math

import numpy as np
import pytest
import torch

from bsq.codes import Codes
from bsq.metrics import JointEntropy, JointEntropyMeter
from bsq.metrics.described import Description, mutual_information


def random_bits(tokens: int, length: int, share: float = 0.5, seed: int = 0) -> torch.Tensor:
    return (torch.rand(tokens, length, generator=torch.Generator().manual_seed(seed)) < share).to(torch.uint8)


def chained_bits(tokens: int, length: int, flips: float) -> torch.Tensor:
    """Each bit is the one before it, flipped now and then: 1 + (L − 1) h(flips) bits."""
    return (random_bits(tokens, length, flips, seed=1).cumsum(1) + random_bits(tokens, 1, seed=2)).remainder(2).byte()


def bits_of(share: float) -> float:
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def measured(digits: torch.Tensor, radices: tuple[int, ...]) -> JointEntropy:
    meter = JointEntropyMeter(radices)
    for part in digits.split(1000):
        meter.add(Codes(part[None, None, None], radices))
    return meter.result()


@pytest.mark.parametrize(
    ("digits", "entropy"),
    [
        (random_bits(20000, 16), 16),
        (random_bits(20000, 36, 0.05), 36 * bits_of(0.05)),
        (chained_bits(20000, 40, 0.02), 1 + 39 * bits_of(0.02)),
    ],
)
def test_bounds_of_known_distributions(digits: torch.Tensor, entropy: float) -> None:
    found = measured(digits, (2,) * digits.shape[1])
    assert found.collision_bits is not None
    assert found.described_bits is not None
    assert found.collision_bits < 1.01 * entropy
    assert 0.999 * entropy < found.described_bits < 1.03 * entropy


def test_long_codes_that_all_differ_have_a_bound_from_above() -> None:
    for digits, entropy in ((random_bits(3000, 200), 200), (chained_bits(3000, 200, 0.3), 1 + 199 * bits_of(0.3))):
        found = measured(digits, (2,) * 200)
        assert found.distinct == 3000
        assert found.collision_bits is None
        assert found.described_bits == pytest.approx(entropy, rel=0.02)
        assert "description's" in found.note


def test_collisions_by_hand() -> None:
    assert JointEntropy.of(np.array([2, 1, 1])).collision_bits == pytest.approx(math.log2(6))  # one pair of six
    assert JointEntropy.of(np.array([5])).collision_bits == 0
    assert JointEntropy.of(np.array([1, 1])).collision_bits is None
    assert JointEntropy.of(np.array([1])).collision_bits is None


def test_a_description_by_hand() -> None:
    """00 00 01 11: a tree of one edge tells whole codes, 1.5 bits each; its three parameters cost ½ log2 4 each."""
    description = Description((2, 2))
    description.add(np.array([[0, 0], [0, 0], [0, 1], [1, 1]]))
    assert description.bits() == pytest.approx(1.5 + 3 * 1 / 4)
    alone = Description((2, 2))
    alone.add(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    assert alone.bits() == pytest.approx(2 + 2 * 1 / 4)  # the edge would cost more than it tells
    digits = Description((3, 5))
    digits.add(np.array([[0, 4], [1, 4], [2, 4]]))
    assert digits.bits() == pytest.approx(math.log2(3) + 6 * math.log2(3) / 6)


def test_the_tree_is_the_best_of_all_trees() -> None:
    """Against every spanning tree of five bits."""
    rows = random_bits(400, 5, 0.4, seed=3).numpy().astype(np.int64)
    noise = random_bits(400, 5, 0.2, seed=4).numpy()
    for bit, parent in ((3, 0), (1, 3), (4, 3), (2, 4)):
        rows[:, bit] = rows[:, parent] ^ noise[:, bit]
    information, price = mutual_information(rows.T @ rows, 400), math.log2(400) / 800
    edges = list(itertools.combinations(range(5), 2))
    trees = [tree for tree in itertools.combinations(edges, 4) if len(reached(tree)) == 5]
    assert len(trees) == 125  # Cayley: 5³
    best = max(sum(max(0.0, information[edge] - price) for edge in tree) for tree in trees)
    description = Description((2,) * 5)
    description.add(rows)
    alone = sum(bits_of(share) + price for share in rows.mean(0))
    assert description.bits() == pytest.approx(alone - best)
    assert best > 0.1


def reached(tree: tuple[tuple[int, int], ...]) -> set[int]:
    found = {0}
    for _ in range(5):
        found |= {b for a, b in tree if a in found} | {a for a, b in tree if b in found}
    return found


def test_information_by_definition() -> None:
    rows = chained_bits(300, 4, 0.2).numpy().astype(np.int64)
    found = mutual_information(rows.T @ rows, 300)
    for i, k in itertools.product(range(4), repeat=2):
        table = np.array([[((rows[:, i] == a) & (rows[:, k] == b)).mean() for b in (0, 1)] for a in (0, 1)])
        terms = [
            table[a, b] * math.log2(table[a, b] / (table[a].sum() * table[:, b].sum()))
            for a in (0, 1)
            for b in (0, 1)
            if table[a, b] > 0
        ]
        assert found[i, k] == pytest.approx(sum(terms), abs=1e-12)


def test_parts_add_up_exactly() -> None:
    for radices in ((2,) * 20, (4, 3, 70000)):
        generator = torch.Generator().manual_seed(0)
        digits = torch.stack([torch.randint(radix, (300,), generator=generator) for radix in radices], -1).numpy()
        whole, one, other = (Description(radices) for _ in range(3))
        whole.add(digits)
        one.add(digits[250:])
        other.add(digits[:250])
        one.merge(other)
        assert one.bits() == whole.bits()
