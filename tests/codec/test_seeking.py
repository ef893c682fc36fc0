"""What `compress` does unasked: one correction, where it can be, for no more work than that takes."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as pictures

import bsq
from bsq.checkpoint import decoders
from bsq.codec import seeking
from bsq.codec.account import Lately
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress
from bsq.codec.search import Search, growth_of
from bsq.codec.seeking import Seeking, followed
from bsq.codec.shelf import named_model
from bsq.codec.stream import CodedStream
from bsq.codec.writer import PictureWriter
from bsq.codes import Codes
from bsq.layers.positions import LearnedPositionsSettings
from bsq.quantizers import FsqSettings
from bsq.tokenizer import Tokenizer
from bsq.vit.decoder import DecoderSettings

CAT = pictures.chelsea()[60:188, 120:248]
EYE = "biscuit-s:perceptual"
LEARNED = DecoderSettings(width=16, depth=1, head_width=16, positions=LearnedPositionsSettings(rows=4, columns=4))


def error(data: bytes, picture: np.ndarray = CAT) -> float:
    return float(np.square(decompress(data).astype(float) - picture).mean())


@pytest.mark.parametrize("bits", [9, 18, 36])
def test_unasked_a_photograph_is_corrected_once(bits: int) -> None:
    plain, usual = (compress(CAT, bits=bits, search=steps, colours=False) for steps in (0, None))
    assert usual == compress(CAT, bits=bits, search=1, colours=False)
    assert error(usual) < 0.98 * error(plain)
    assert len(usual) < 1.05 * len(plain)


def test_a_file_is_the_same_whichever_decoder_is_at_hand() -> None:
    assert compress(CAT, EYE, 18) == compress(CAT, "biscuit-s", 18)
    assert compress(CAT, EYE, 18, search=1) != compress(CAT, EYE, 18)  # asked for, it is for the eye


@pytest.mark.parametrize(
    ("how", "most"),
    [
        ({"bits": 18, "search": 0}, {"decode": 1, "latent": 1, "write": 1}),
        ({"bits": 18}, {"decode": 3, "latent": 2, "write": 3}),  # small: also as the encoder chose
        ({"bits": 18, "allocate": True, "search": 0}, {"latent": 1, "decode": 8, "write": 16}),
        ({"max_bytes": 600}, {"latent": 8, "decode": 20, "write": 30}),
    ],
)
def test_nothing_is_worked_out_twice(
    how: dict[str, Any], most: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"decode": 0, "latent": 0, "encode": 0, "write": 0}

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return call(*arguments, **named)

        return count

    for name in ("decode", "latent", "encode"):
        monkeypatch.setattr(Tokenizer, name, counted(name, getattr(Tokenizer, name)))
    monkeypatch.setattr("bsq.codec.writer.CodedStream", counted("write", CodedStream))
    compress(CAT, **how)
    assert calls["encode"] == 0  # the latent is at hand
    assert {name: count for name, count in calls.items() if count > most.get(name, count)} == {}


@pytest.mark.parametrize("how", [{}, {"max_bytes": 600}, {"bits": 9, "allocate": True}])
def test_a_picture_does_not_outlive_its_file(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []

    def noted(*arguments: Any, **named: Any) -> PictureWriter:
        writer = PictureWriter(*arguments, **named)
        alive.append(weakref.ref(writer))
        return writer

    monkeypatch.setattr("bsq.codec.picture.PictureWriter", noted)
    gc.disable()
    try:
        compress(CAT[:64, :64], **how)
        assert [one() for one in alive] == [None]
    finally:
        gc.enable()


def test_another_encoder_is_not_asked() -> None:
    """A decoder for the eye whose encoder learned on no longer shares its codes with the faithful model."""
    eye = copy.deepcopy(named_model(EYE))
    decoders._faithful[eye] = named_model("biscuit-s")
    assert decoders.faithful_of(eye) is named_model("biscuit-s")
    with torch.no_grad():
        eye.encoder.embed.weight.mul_(-1)
    assert decoders.faithful_of(eye) is eye


@pytest.mark.parametrize("change", [{"quantizer": FsqSettings(levels=(5, 5))}, {"decoder": LEARNED}])
def test_models_that_cannot_be_searched_compress_as_they_did(tiny_tokenizer: Tokenizer, change: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Tokenizer(tiny_tokenizer.settings.model_copy(update=change)).eval()
    assert Seeking.of(None, model, (32, 32)).steps == 0
    assert compress(CAT[:32, :32], model) == compress(CAT[:32, :32], model, search=0)


def test_huge_pictures_keep_the_encoders_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeking, "USUAL_MOST", 255)
    assert compress(CAT, bits=18) == compress(CAT, bits=18, search=0)
    monkeypatch.setattr(seeking, "USUAL_MOST", 256)
    assert compress(CAT, bits=18) != compress(CAT, bits=18, search=0)


@pytest.mark.parametrize(
    ("name", "place", "how"),
    [
        *(("chelsea", (60, 120, 128, 128), {"bits": bits}) for bits in (6, 12, 18, 36)),
        ("chelsea", (60, 120, 128, 128), {"bits": 12, "colours": False}),
        ("coffee", (90, 204, 128, 128), {"bits": 12, "colours": False}),
        ("rocket", (194, 143, 112, 118), {"bits": 34, "colours": False}),
        ("coffee", (36, 463, 136, 123), {"bits": 33, "colours": False, "search": 2}),
        ("chelsea", (163, 307, 133, 132), {"bits": 33}),
        ("chelsea", (52, 109, 103, 132), {"bits": 35}),
    ],
)
def test_a_target_gives_no_less_than_bits_in_as_many_bytes(
    name: str, place: tuple[int, int, int, int], how: dict[str, Any]
) -> None:
    top, left, height, width = place
    picture = getattr(pictures, name)()[top : top + height, left : left + width]
    alike = compress(picture, **how)
    within = compress(picture, max_bytes=len(alike), **how | {"bits": None})
    assert len(within) <= len(alike)
    assert error(within, picture) <= 1.001 * error(alike, picture)


def test_bits_stay_within_what_a_search_may_spend(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    def noted(self: Search, pixels: Any, growth: float | None = None, account: Any = None) -> Codes:
        allowed.append(growth_of(self.steps) if growth is None else growth)
        return account.codes(self.bits)

    monkeypatch.setattr(Search, "__call__", noted)
    compress(CAT, bits=9, max_bytes=10**6)
    compress(CAT, bits=9)
    assert allowed == [growth_of(1)] * 2


@pytest.mark.parametrize("level", [7, 150, 200])
def test_drawings_lose_nothing(level: int) -> None:
    """Flat pictures, set right all over, are nearly what they were; corrections may make them less so."""
    flat = np.full((128, 128, 3), level, np.uint8)
    plain, usual = (error(compress(flat, search=steps), flat) for steps in (0, None))
    assert usual <= plain + 0.01  # pixels are rounded


@pytest.mark.parametrize(("steps", "pays"), [(0, False), (None, True)])
def test_what_is_found_may_be_shared_out(steps: int | None, pays: bool) -> None:
    face = pictures.astronaut()[:256, 100:356]
    alike, shared = (compress(face, bits=18, search=steps, allocate=how) for how in (False, True))
    assert len(shared) <= len(alike)
    assert bool(inspect(shared).info.levels) == pays
    assert (error(shared, face) < error(alike, face)) == pays


def test_a_search_unasked_is_told_too() -> None:
    told: list[float] = []
    compress(CAT, bits=9, told=told.append)
    assert told[-1] == 1.0


def test_digits_that_were_found_come_first() -> None:
    found, longer = (
        Codes(torch.full((1, 1, 2, 2, length), digit), (2,) * length) for length, digit in ((3, 1), (5, 0))
    )
    joined = followed(found, longer)
    assert joined.first(3) == found
    assert joined.radices == longer.radices
    assert int(joined.digits[..., 3:].sum()) == 0
    assert followed(found, found) == found


def test_only_the_last_result_is_at_hand() -> None:
    asked: list[Codes] = []

    def note(codes: Codes) -> int:
        asked.append(codes)
        return len(asked)

    one, other = (Codes(torch.full((1, 1, 1, 1, 2), digit), (2, 2)) for digit in (0, 1))
    lately = Lately(note)
    same = Codes(one.digits.clone(), one.radices)
    assert [lately(codes) for codes in (one, same, other, other.first(1), one)] == [1, 1, 2, 3, 4]


def test_clips_are_not_searched_unasked() -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(CAT[n : n + 64, :64]) for n in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    unasked, plain, asked = (bsq.compress(file.getvalue(), bits=9, search=steps) for steps in (None, 0, 1))
    assert unasked == plain != asked
