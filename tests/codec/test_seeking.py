"""What `compress` does unasked: one correction, where it can be, for no more work than that takes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as pictures

import bsq
from bsq.codec import seeking
from bsq.codec.account import Lately
from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress
from bsq.codec.seeking import Seeking, followed
from bsq.codec.shelf import named_model, smallest_of
from bsq.codec.stream import CodedStream, read_codes
from bsq.codes import Codes
from bsq.layers.positions import LearnedPositionsSettings
from bsq.quantizers import FsqSettings
from bsq.tokenizer import Tokenizer
from bsq.vit.decoder import DecoderSettings

CAT = pictures.chelsea()[60:188, 120:248]
EYE = "biscuit-s:perceptual"
LEARNED = DecoderSettings(width=16, depth=1, head_width=16, positions=LearnedPositionsSettings(rows=4, columns=4))


def error(data: bytes) -> float:
    return float(np.square(decompress(data).astype(float) - CAT).mean())


@pytest.mark.parametrize("bits", [9, 18, 36])
def test_unasked_a_photograph_is_corrected_once(bits: int) -> None:
    plain, usual = (compress(CAT, bits=bits, search=steps, colours=False) for steps in (0, None))
    assert usual == compress(CAT, bits=bits, search=1, colours=False)
    assert error(usual) < 0.98 * error(plain)
    assert len(usual) < 1.05 * len(plain)


def test_a_file_is_the_same_whichever_decoder_is_at_hand() -> None:
    assert compress(CAT, EYE, 18) == compress(CAT, "biscuit-s", 18)
    assert compress(CAT, EYE, 18, search=1) != compress(CAT, EYE, 18)  # asked for, it is for the eye


def test_nothing_is_worked_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"decode": 0, "latent": 0, "write": 0}

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return call(*arguments, **named)

        return count

    monkeypatch.setattr(Tokenizer, "decode", counted("decode", Tokenizer.decode))
    monkeypatch.setattr(Tokenizer, "latent", counted("latent", Tokenizer.latent))
    monkeypatch.setattr("bsq.codec.writer.CodedStream", counted("write", CodedStream))
    usual = compress(CAT, bits=18)
    assert usual != compress(CAT, bits=18, search=0)  # one more of each but `latent`
    assert calls == {"decode": 3, "latent": 2, "write": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"quantizer": FsqSettings(levels=(5, 5))},
        {
            "decoder": DecoderSettings(
                width=16, depth=1, head_width=16, positions=LearnedPositionsSettings(rows=4, columns=4)
            )
        },
    ],
)
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


def test_a_target_is_met_by_what_is_nearer() -> None:
    most = 26 * len(compress(CAT, bits=14, search=0, colours=False)) // 25
    plain, usual = (compress(CAT, max_bytes=most, search=steps, colours=False) for steps in (0, None))
    assert len(usual) <= most
    assert error(usual) < error(plain)


@pytest.mark.parametrize("steps", [0, None, 2])
def test_what_is_found_may_be_shared_out(steps: int | None) -> None:
    alike, shared = (compress(CAT, bits=18, search=steps, allocate=how) for how in (False, True))
    assert len(shared) <= len(alike)
    read = read_codes(shared, smallest_of(named_model("biscuit-s")))
    assert inspect(shared).info.levels == () or read.kept is not None


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
