"""Another decoder shows a file in the colours of the faithful one, whichever of them wrote it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import bsq
from bsq.checkpoint.decoders import faithful_of
from bsq.codec.picture import compress, decompress, recover
from bsq.codec.shelf import named_model, priors_for
from bsq.codec.showing import PART, in_colours_of, shown
from bsq.codec.stream import read_available
from bsq.codec.video import compress_video, decompress_video
from bsq.data.pictures import open_picture

EYE = "biscuit-s:perceptual"


def sky() -> np.ndarray:
    """A pale yellow, darker below: the two decoders are wrong about it in different ways."""
    rows = np.linspace(1, 0.85, 120)[:, None, None]
    return np.broadcast_to(np.array([255, 250, 200]) * rows, (120, 150, 3)).round().astype(np.uint8)


def off(data: bytes, picture: np.ndarray, model: str) -> float:
    """How far the mean of a channel is off at most."""
    return float(np.abs((decompress(data, model).astype(float) - picture).mean((0, 1))).max())


@pytest.mark.parametrize("bits", [9, 36])
def test_the_decoder_for_the_eye_shifts_no_colours(bits: int) -> None:
    data = compress(sky(), bits=bits)
    assert off(data, sky(), "biscuit-s") < 1
    assert off(data, sky(), EYE) < 1


def test_what_sets_right_is_fitted_to_the_faithful_decoder_whichever_writes() -> None:
    assert compress(sky(), EYE, 18) == compress(sky(), "biscuit-s", 18)


def test_files_that_are_not_set_right_show_what_the_decoder_makes_of_them() -> None:
    data, model = compress(sky(), bits=18, search=0, colours=False), named_model(EYE)
    codes = model.encode(torch.from_numpy(sky()).permute(2, 0, 1)[None] / 127.5 - 1, 18)
    plain = model.decode(codes, sky().shape[:2])[0, :, 0].permute(1, 2, 0)
    assert np.abs(decompress(data, EYE) - ((plain + 1) * 127.5).numpy()).max() <= 1


def test_details_stay_and_larger_parts_are_those_wanted() -> None:
    draw = torch.Generator().manual_seed(0)
    pixels, right = (torch.rand(1, 3, 2, 150, 70, generator=draw) * 0.2 - 0.1 for _ in range(2))
    right += 0.3
    seen = in_colours_of(right.clone(), pixels.clone())
    parts = [torch.nn.functional.avg_pool3d(one, (1, PART, PART)) for one in (seen, right, pixels)]
    assert (parts[0] - parts[1]).abs().mean() < 0.1 * (parts[2] - parts[1]).abs().mean()
    fine = [one - one.mean((-1, -2), keepdim=True) for one in (seen, pixels)]
    assert torch.corrcoef(torch.stack([one.flatten() for one in fine]))[0, 1] > 0.95
    assert seen.dtype == torch.float32


def test_a_film_for_the_eye_is_the_same_frame_by_frame(photo: Callable[[str], Path]) -> None:
    cat, target = open_picture(photo("chelsea")), io.BytesIO()
    grey = np.repeat(cat.mean(axis=2, keepdims=True).round(), 3, axis=2).astype(np.uint8)
    frames = [grey[40 + n : 104 + n, 2 * n : 2 * n + 80] for n in range(5)]
    compress_video(frames, 12, target, bits=18, frames_per_group=3)
    again = np.stack(list(decompress_video(target, EYE).frames)).astype(int)
    assert np.abs(again[..., [0, 2]] - again[..., [1]]).mean() < 1
    stream, model = (
        read_available(target.getvalue(), priors_for(named_model("biscuit-s"))),
        named_model(EYE),
    )
    first = bsq.Codes(stream.codes.digits[:, :3], stream.codes.radices)
    whole = shown(model, first, (64, 80), colours=stream.info.colours)
    np.testing.assert_allclose((whole[0].permute(1, 2, 3, 0) + 1) * 127.5, again[:3], atol=1)


def test_what_is_left_of_a_file_is_shown_alike(photo: Callable[[str], Path]) -> None:
    data = compress(open_picture(photo("chelsea"))[60:252, 100:356], bits=18)
    left = [recover(data[: 3 * len(data) // 4], model) for model in ("biscuit-s", EYE)]
    assert left[0].missing == left[1].missing is not None
    assert "no digits" not in str(left[0].missing)
    means = [one.picture.astype(float).mean((0, 1)) for one in left]
    assert np.abs(means[0] - means[1]).max() < 1


def test_the_faithful_one_is_known() -> None:
    model = named_model(EYE)
    faithful = faithful_of(model)
    assert faithful is not model
    assert faithful.code_hash == model.code_hash
    assert faithful_of(faithful) is faithful
    assert faithful_of(named_model("biscuit-s")) is named_model("biscuit-s")
