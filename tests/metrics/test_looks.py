"""examples/looks.py: seams are found where the decoder's windows end, shifted ones too, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from bsq.layers.windows import FullAttentionSettings, WindowAttentionSettings

GREY = np.full((96, 96, 3), 128, np.uint8)


@pytest.fixture
def looks(example: Callable[[str], ModuleType]) -> ModuleType:
    pytest.importorskip("matplotlib")
    return example("looks")


def coding(attention: FullAttentionSettings | WindowAttentionSettings) -> SimpleNamespace:
    return SimpleNamespace(
        model=SimpleNamespace(patch=4, settings=SimpleNamespace(decoder=SimpleNamespace(attention=attention)))
    )


def seams(looks: ModuleType, attention: FullAttentionSettings | WindowAttentionSettings, picture: np.ndarray) -> float:
    made = coding(attention)
    return looks.seams(made.model, looks.steps_of(made, [picture]))


def with_steps(every: int, first: int) -> np.ndarray:
    """A grey picture that is 9 levels brighter or darker behind each step, and a little noisy."""
    side = np.arange(96)
    steps = np.cumsum(np.where((side % every == first) & (side > 0), 9.0 * (-1) ** (side // every), 0.0))
    noise = np.random.default_rng(0).normal(0, 1, GREY.shape)
    return GREY + (steps[:, None] + steps)[..., None] + noise


@pytest.mark.parametrize(("every", "first", "seen"), [(32, 0, True), (32, 16, True), (96, 0, False), (16, 4, False)])
def test_seams_are_at_whole_and_at_shifted_windows(
    looks: ModuleType, monkeypatch: pytest.MonkeyPatch, every: int, first: int, seen: bool
) -> None:
    monkeypatch.setattr(looks, "again", lambda coding, picture: with_steps(every, first))
    found = seams(looks, WindowAttentionSettings(size=8), GREY)
    assert (found > 1.5) is seen


def test_where_there_are_no_windows_there_are_no_seams(looks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "again", lambda coding, picture: picture.astype(float))
    assert seams(looks, FullAttentionSettings(), GREY) == 1.0
    assert seams(looks, WindowAttentionSettings(size=8), GREY[:12, :12]) == 1.0
    assert seams(looks, WindowAttentionSettings(size=2), GREY) == 1.0


@pytest.mark.parametrize(("every", "first", "seen"), [(4, 0, True), (8, 0, True), (4, 1, False)])
def test_borders_of_patches_are_told_from_what_is_within(
    looks: ModuleType, monkeypatch: pytest.MonkeyPatch, every: int, first: int, seen: bool
) -> None:
    monkeypatch.setattr(looks, "again", lambda coding, picture: with_steps(every, first))
    made = coding(FullAttentionSettings())
    assert (looks.patches(made.model, looks.steps_of(made, [GREY])) > 1.5) is seen
