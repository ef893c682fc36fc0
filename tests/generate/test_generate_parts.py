"""Numbers by counting, schedules, guidance, orders, groups, names."""

from __future__ import annotations

import math

import pytest
import torch

from bsq.errors import SettingsError
from bsq.generate.classes import class_number
from bsq.generate.grouping import make_grouping
from bsq.generate.guidance import (
    ConstantGuidance,
    Guidance,
    IntervalGuidance,
    LinearGuidance,
    PowerCosineGuidance,
    guidance_weight,
    guide,
)
from bsq.generate.masking import MaskingSettings, draw_known, drop_classes
from bsq.generate.noise import CHANGE, MASK, gumbel, uniform
from bsq.generate.order import Draw, HaltonSettings, best, halton_order, make_order
from bsq.generate.schedule import left_after, unknown_share


def test_numbers_are_even_and_depend_on_all_they_are_for() -> None:
    drawn = uniform(3, MASK, 0, torch.arange(200), 500)
    assert float(drawn.min()) > 0
    assert float(drawn.max()) < 1
    counts = torch.histc(drawn, 50, 0, 1)
    assert ((counts - 2000).abs() < 250).all()
    assert abs(float(torch.corrcoef(torch.stack([drawn[:, 1:].flatten(), drawn[:, :-1].flatten()]))[0, 1])) < 0.02
    others = [uniform(4, MASK, 0, torch.arange(9), 9), uniform(3, CHANGE, 0, torch.arange(9), 9),
              uniform(3, MASK, 1, torch.arange(9), 9), uniform(3, MASK, 0, torch.arange(1, 10), 9)]  # fmt: skip
    assert all((other != drawn[:9, :9]).all() for other in others)
    assert torch.equal(uniform(3, MASK, 0, torch.tensor([7]), 500)[0], drawn[7])


def test_gumbel_has_its_mean_and_variance() -> None:
    drawn = gumbel(0, MASK, 0, torch.arange(100), 1000)
    assert abs(float(drawn.mean()) - 0.5772) < 0.02
    assert abs(float(drawn.var()) - math.pi**2 / 6) < 0.05


@pytest.mark.parametrize("schedule", ["cosine", "arccos", "linear"])
def test_schedules_fall_from_one_to_nothing(schedule: str) -> None:
    share = unknown_share(schedule, torch.linspace(0, 1, 20, dtype=torch.float64))  # type: ignore[arg-type]
    assert share[0] == 1
    assert abs(share[-1]) < 1e-12
    assert (share.diff() < 0).all()
    middle = {"cosine": math.cos(math.pi / 4), "arccos": 2 / 3, "linear": 0.5}[schedule]
    assert abs(float(unknown_share(schedule, torch.tensor(0.5, dtype=torch.float64))) - middle) < 1e-12  # type: ignore[arg-type]


def test_each_step_makes_something_known_and_the_last_all() -> None:
    total = torch.tensor([512, 3, 1])
    unknown = total.clone()
    for step in range(12):
        left = left_after("cosine", step, 12, total, unknown)
        assert ((left < unknown) | (unknown == 0)).all()
        unknown = left
    assert not unknown.any()


def test_guidance_ramps() -> None:
    def weights(settings: Guidance) -> list[float]:
        return [round(guidance_weight(settings, step, 5), 6) for step in range(5)]

    assert weights(ConstantGuidance(weight=2)) == [2] * 5
    assert weights(LinearGuidance(weight=2)) == [0, 0.5, 1, 1.5, 2]
    assert weights(PowerCosineGuidance(weight=2, power=1)) == [0, 0.292893, 1, 1.707107, 2]
    late = weights(PowerCosineGuidance(weight=2, power=3))
    assert late[0] == 0
    assert late[-1] == 2
    assert late[2] < 0.1
    assert weights(IntervalGuidance(weight=2, start=0.5)) == [0, 0, 2, 2, 2]
    assert weights(IntervalGuidance(weight=2, start=0.2, end=0.6)) == [0, 2, 2, 0, 0]
    with pytest.raises(ValueError, match="start must not be above end"):
        IntervalGuidance(start=0.6, end=0.4)
    assert guidance_weight(LinearGuidance(weight=2), 0, 1) == 2
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(guide(a, b, 0.0), a)
    alpha = 0.5  # as the paper writes it
    assert torch.equal(guide(a, b, alpha), b + (1 + alpha) * (a - b))


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (16, 16), (7, 13)])
def test_halton_order_is_a_permutation(grid: tuple[int, int]) -> None:
    assert sorted(halton_order(*grid)) == list(range(grid[0] * grid[1]))


def test_halton_order_is_spread_out() -> None:
    quarters = [(token // 16 // 8, token % 16 // 8) for token in halton_order(16, 16)[:16]]
    assert min(quarters.count(quarter) for quarter in set(quarters)) >= 3
    assert len(set(quarters)) == 4


def test_halton_ranks_are_permutations_that_differ_by_sample() -> None:
    draw = Draw(0, 0, torch.arange(3))
    order = make_order(HaltonSettings(), (4, 6), 2, draw, 8)
    rank = order.rank  # type: ignore[union-attr]
    assert all(sorted(row) == list(range(48)) for row in rank.tolist())
    assert not torch.equal(rank[0], rank[1])
    apart = (rank.view(3, 24, 2)[..., 0] - rank.view(3, 24, 2)[..., 1]).abs()
    assert int(apart.min()) >= 22  # the groups of a token, half of the order of 48


def test_best_takes_so_many() -> None:
    score = torch.tensor([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]])
    assert best(score, torch.tensor([2, 0])).tolist() == [[False, True, True], [False] * 3]


@pytest.mark.parametrize(("radices", "size"), [((2,) * 18, 9), ((8, 8, 5, 5, 5), 2), ((1024,), 1), ((2,) * 10, 4)])
def test_groups_are_exact(radices: tuple[int, ...], size: int) -> None:
    grouping = make_grouping(radices, size)
    digits = torch.stack([torch.randint(0, radix, (50,)) for radix in radices], -1)
    groups = grouping.join(digits)
    assert torch.equal(grouping.split(groups), digits)
    for g, span in enumerate(grouping.spans):
        assert torch.equal(grouping.digits_of(g)[groups[:, g]], digits[:, span.start : span.stop])
        assert len(torch.unique(grouping.signs_of(g), dim=0)) == grouping.vocabularies[g]


def test_groups_too_wide_are_refused() -> None:
    with pytest.raises(SettingsError, match="group_digits below 13"):
        make_grouping((2,) * 26, 13)
    with pytest.raises(SettingsError, match="too wide"):
        make_grouping((2**17,), 1)


def test_masks_follow_from_the_position() -> None:
    settings = MaskingSettings(schedule="cosine")
    whole = draw_known(settings, 0, torch.arange(400), (1, 4, 4, 2))
    assert torch.equal(whole[37:39], draw_known(settings, 0, torch.tensor([37, 38]), (1, 4, 4, 2)))
    assert (~whole).flatten(1).any(1).all()
    assert abs(float((~whole).float().mean()) - 2 / math.pi) < 0.04
    halves = whole[..., 0] != whole[..., 1]
    assert halves.any(), "groups are masked one by one"
    last = draw_known(settings.model_copy(update={"frames": "last"}), 0, torch.arange(100), (3, 4, 4, 2))
    masked = (~last).flatten(2).any(2)
    assert (masked.sum(1) == 1).all()
    assert masked.any(0).all()


def test_classes_are_hidden_as_often_as_said() -> None:
    labels = torch.arange(1000) % 7
    classes = drop_classes(MaskingSettings(class_dropout=0.3), 0, torch.arange(1000), labels, 7)
    assert abs(float((classes == 7).float().mean()) - 0.3) < 0.05
    assert torch.equal(classes[classes != 7], labels[classes != 7])
    assert drop_classes(MaskingSettings(class_dropout=0.0), 0, torch.arange(2), torch.tensor([-1, 3]), 7).tolist() == [
        7,
        3,
    ]


def test_names_of_classes() -> None:
    names = ("airplanes", "ant", "car_side", "cup", "cougar_face", "cougar_body")
    assert class_number(names, "Airplane") == 0
    assert class_number(names, "car side") == 2
    assert class_number(names, "3") == 3
    with pytest.raises(SettingsError, match="did you mean cougar_face, cougar_body"):
        class_number(names, "cougar")
    with pytest.raises(SettingsError, match="did you mean airplanes"):
        class_number(names, "aeroplane")
    with pytest.raises(SettingsError, match="there are airplanes, ant, car_side, cup, cougar_face, cougar_body"):
        class_number(names, "-3")
    with pytest.raises(SettingsError, match="there are c0, c99 and others"):
        class_number([f"c{number}" for number in range(100)], "zzz")
    with pytest.raises(SettingsError, match="knows no classes"):
        class_number((), "cup")
