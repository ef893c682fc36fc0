"""Sampling: reproducible, whatever the batch; known digits stay; both ways through the network agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bsq.errors import CodesError, SettingsError, ShapeError
from bsq.generate.network import Generator, View
from bsq.generate.sampler import Sampler, SamplerSettings

Make = Callable[..., Generator]
ORDERS = [{"kind": "confidence"}, {"kind": "halton"}, {"kind": "random"}]


def draw(network: Generator, **settings: object) -> Sampler:
    return Sampler(network, SamplerSettings.model_validate({"steps": 5} | settings))


@pytest.mark.parametrize("inputs", ["bits", "embeddings"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("window", [None, 2])
def test_a_look_at_a_frame_is_what_training_sees(
    make_generator: Make, inputs: str, positions: str, norm: str, window: int | None
) -> None:
    shape = {"inputs": inputs, "positions": positions, "norm": norm, "window_frames": window, "grid": (4, 4, 5)}
    network = make_generator(radices=(2, 2, 2, 5, 5), group_digits=3, **shape)
    groups = torch.stack([torch.randint(0, v, (2, 4, 4, 5)) for v in network.grouping.vocabularies], -1)
    known = torch.ones_like(groups, dtype=torch.bool)
    known[:, 3] = torch.rand(2, 4, 5, 2) < 0.4
    classes, every = torch.tensor([1, 4]), torch.arange(20).expand(2, -1)
    with torch.no_grad():
        expected = network(groups, known, classes)
        view = View(network, classes)
        for t in range(3):
            view.advance(groups[:, t])
        hidden = view.look(groups[:, 3], known[:, 3], None, every)
        for g in range(2):
            logits = network.head(hidden.view(2, 4, 5, -1)[~known[:, 3, ..., g]], g)
            torch.testing.assert_close(logits, expected[g], atol=2e-4, rtol=1e-3)
        some, wanted = torch.tensor([[3, 7, 1, 9], [19, 0, 5, 4]]), torch.tensor([[7, 3], [4, 19]])
        part = view.look(groups[:, 3], known[:, 3], some, wanted)
        torch.testing.assert_close(part, hidden.gather(1, wanted[..., None].expand(-1, -1, 32)), atol=2e-4, rtol=1e-3)


def test_later_frames_change_nothing_in_earlier_ones(make_generator: Make) -> None:
    network = make_generator(grid=(3, 4, 5))
    groups = torch.randint(0, 16, (1, 3, 4, 5, 2))
    known = torch.zeros_like(groups, dtype=torch.bool)
    other = groups.clone()
    other[:, 2] = (other[:, 2] + 3) % 16
    known[:, 1:] = True
    with torch.no_grad():
        before, after = (network(g, known, torch.tensor([0])) for g in (groups, other))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order["kind"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sample_is_the_same_in_any_batch(make_generator: Make, order: dict[str, str], precision: str) -> None:
    sampler = draw(make_generator(), order=order, precision=precision)
    classes = torch.tensor([0, 1, 4, 2, 2])
    whole = sampler.sample(classes, seed=3)
    assert whole == sampler.sample(classes, seed=3)
    assert torch.equal(sampler.sample(classes[3:], seed=3, first=3).digits, whole.digits[3:])
    assert not torch.equal(sampler.sample(classes, seed=4).digits, whole.digits)
    assert not torch.equal(whole.digits[3], whole.digits[4]), "samples of one class differ"


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order["kind"])
def test_together_is_as_one_by_one(make_generator: Make, order: dict[str, str]) -> None:
    """Up to roundings, which are too small here to change a draw."""
    network, classes = make_generator(), torch.tensor([0, 1, 4, 2, 2, 3])
    one, some = (draw(network, order=order, together=n).sample(classes, seed=1) for n in (1, 4))
    assert one == some


def test_refresh_computes_fewer_tokens(make_generator: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By confidence all unknown ones, in an order that was laid down those of the step alone."""
    network, looked = make_generator(), []
    look = View.look

    def count(self: View, groups: torch.Tensor, known: torch.Tensor, places: torch.Tensor | None, wanted: torch.Tensor):
        looked.append(20 if places is None or self.is_empty else places.shape[1])
        return look(self, groups, known, places, wanted)

    monkeypatch.setattr(View, "look", count)
    sums = []
    for refresh, order in ((1, "confidence"), (4, "confidence"), (4, "halton")):
        looked.clear()
        draw(network, steps=8, refresh=refresh, order={"kind": order}).sample(torch.tensor([1]), seed=0)
        sums.append(sum(looked))
    assert sums[2] < 0.9 * sums[1] < 0.9 * sums[0]


def test_steps_without_guidance_look_once(make_generator: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    network, looks = make_generator(), []
    look = View.look
    monkeypatch.setattr(View, "look", lambda self, *given: looks.append(1) or look(self, *given))
    late = {"kind": "interval", "weight": 2.0, "start": 0.6}
    draw(network, steps=6, guidance=late, refresh=4).sample(torch.tensor([1]), seed=0)
    assert len(looks) == 3 + 2 * 3


def test_guidance_without_weight_looks_once(make_generator: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    network, looks = make_generator(), []
    look = View.look
    monkeypatch.setattr(View, "look", lambda self, *given: looks.append(1) or look(self, *given))
    counts = []
    for weight in (0.0, 1.0):
        looks.clear()
        alone = draw(network, guidance={"kind": "constant", "weight": weight}, together=1)
        alone.sample(torch.tensor([1, 1, 1]), seed=0)
        counts.append(len(looks))
    assert counts == [1 + 3 * 4, 2 + 3 * 8], "the first look is shared by the samples of a class"


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order["kind"])
def test_known_digits_stay(make_generator: Make, order: dict[str, str]) -> None:
    """Also those of which a group is known in part."""
    network = make_generator(positions="rotary")
    digits = torch.randint(0, 2, (3, 2, 4, 5, 8))
    known = torch.rand(3, 2, 4, 5, 8) < 0.5
    filled = draw(network, order=order).fill(digits, known, torch.tensor([0, 1, 2]), seed=0).digits.long()
    assert torch.equal(filled[known], digits[known])
    assert not torch.equal(filled, digits)
    noise = torch.where(known, digits, 1 - digits)
    again = draw(network, order=order).fill(noise, known, torch.tensor([0, 1, 2]), seed=0).digits.long()
    assert torch.equal(again, filled), "what stands at unknown places is not looked at"


def test_all_known_needs_no_look(make_generator: Make) -> None:
    network = make_generator()
    digits = torch.randint(0, 2, (1, 1, 4, 5, 8))
    network.head = None  # type: ignore[assignment]
    filled = draw(network).fill(digits, torch.ones_like(digits, dtype=torch.bool), torch.tensor([0]))
    assert torch.equal(filled.digits.long(), digits)


def test_continuation_is_frame_by_frame(make_generator: Make) -> None:
    network = make_generator(grid=(3, 4, 5))
    sampler = draw(network)
    whole = sampler.sample(torch.tensor([1]), seed=2).digits.long()
    known = torch.zeros_like(whole, dtype=torch.bool)
    known[:, :2] = True
    assert torch.equal(sampler.fill(whole, known, torch.tensor([1]), seed=2).digits.long(), whole)


def test_progress_is_told(make_generator: Make) -> None:
    told: list[tuple[int, int]] = []
    alone = draw(make_generator(), together=1)
    alone.sample(torch.tensor([0, 1]), watch=lambda done, total: told.append((done, total)))
    assert told[-1] == (10, 10)
    assert told == sorted(told)


def test_what_does_not_fit_is_refused(make_generator: Make) -> None:
    sampler, none = draw(make_generator()), torch.zeros(1, 1, 4, 5, 8, dtype=torch.bool)
    with pytest.raises(SettingsError, match="0 to 4"):
        sampler.sample(torch.tensor([5]))
    with pytest.raises(CodesError, match="must be"):
        sampler.fill(none[..., :7].long(), none[..., :7], torch.tensor([0]))
    with pytest.raises(ShapeError, match="4×5 tokens"):
        sampler.fill(none[:, :, :3].long(), none[:, :, :3], torch.tensor([0]))
    with pytest.raises(ValueError, match="steps"):
        SamplerSettings(steps=0)
