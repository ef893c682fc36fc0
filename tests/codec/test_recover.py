"""Pictures from what is left of a stream: any beginning decodes, quality grows, and what is missing is said."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from streams import EchoPrior, describe, likely_codes

from bsq.codec.measure import inspect
from bsq.codec.picture import compress, decompress, recover
from bsq.codec.recover import Fill, complete, first_layer, tell_digits, tell_missing
from bsq.codec.shelf import prior_called
from bsq.codec.stream import CodedStream, read_available, write_codes
from bsq.codes import Codes
from bsq.data.pictures import to_pixels, to_uint8
from bsq.errors import LimitError, ShapeError, TruncatedStreamError
from bsq.prior.masked import MaskedPrior, MaskedSettings
from bsq.prior.uniform import UniformPrior
from bsq.tokenizer import Tokenizer


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("way", Fill)
def test_every_prefix_with_a_header_is_a_picture(tiny_tokenizer: Tokenizer, way: Fill) -> None:
    data = compress(noise(64, 96), tiny_tokenizer)
    header = inspect(data).header
    for size in [header, header + 1, *range(header + 2, len(data), 9), len(data) - 1]:
        found = recover(data[:size], tiny_tokenizer, way=way)
        assert found.picture.shape == (64, 96, 3)
        assert found.missing is not None
    with pytest.raises(TruncatedStreamError):
        recover(data[: header - 1], tiny_tokenizer)
    whole = recover(data, tiny_tokenizer, way=way)
    assert whole.missing is None
    assert np.array_equal(whole.picture, decompress(data, tiny_tokenizer))
    # Only the digest is missing: the same picture, and still no silence about it.
    almost = recover(data[:-1], tiny_tokenizer, way=way)
    assert np.array_equal(almost.picture, whole.picture)
    assert "100 % of the digits can be used, digits 1–12 of all tokens" in str(almost.missing)


def test_missing_digits_count_as_zero(tiny_tokenizer: Tokenizer) -> None:
    """A cut at the border of two digits is the picture of the shorter codes, as the uniform prior stores them."""
    picture = noise(64, 128)
    data = compress(picture, tiny_tokenizer, prior=UniformPrior())
    parts = inspect(data)
    assert parts.payload == 12 * 16
    cut = data[: parts.header + 3 + 128 + 0]
    depth = 128 // 16
    assert inspect(data).framing == 3 + 4  # one block: nothing of it can be used before its checksum
    assert "no digits" in str(recover(cut, tiny_tokenizer).missing)
    large = compress(noise(128, 128), tiny_tokenizer, prior=UniformPrior(), search=0)
    begin = inspect(large).header + 3
    cut = large[: begin + 128 + 4 + (8 * 32 - 128)]
    found = recover(cut, tiny_tokenizer)
    wanted = tiny_tokenizer.decode(tiny_tokenizer.encode(to_pixels(noise(128, 128)), depth))
    assert np.array_equal(found.picture, to_uint8(wanted))
    assert "66.7 % of the digits can be used, digits 1–8 of all tokens, 9–12 of none" in str(found.missing)


def test_codes_known_less_far_than_others(tiny_tokenizer: Tokenizer) -> None:
    codes = tiny_tokenizer.encode(to_pixels(noise(32, 32)))
    everything = torch.full(codes.shape[:-1], 12)
    assert torch.equal(tiny_tokenizer.decode(codes, kept=everything), tiny_tokenizer.decode(codes))
    assert torch.equal(tiny_tokenizer.decode(codes, kept=everything - 5), tiny_tokenizer.decode(codes.first(7)))
    mixed = everything.clone()
    mixed[..., 1:, :] = 3
    other = Codes(codes.digits.clone(), codes.radices)
    other.digits[..., 1:, :, 3:] ^= 1
    assert torch.equal(tiny_tokenizer.decode(codes, kept=mixed), tiny_tokenizer.decode(other, kept=mixed))
    assert not torch.equal(tiny_tokenizer.decode(codes, kept=mixed), tiny_tokenizer.decode(codes))
    for wrong in (mixed[..., 0], mixed.float()):
        with pytest.raises(ShapeError, match="kept must be integers"):
            tiny_tokenizer.decode(codes, kept=wrong)


def test_the_prior_fills_holes_in_groups_of_their_own() -> None:
    info = describe((2,) * 24, height=160, width=240, frames=6, frame_rate=Fraction(25), frames_per_group=2)
    codes, prior = likely_codes(info), EchoPrior()
    data = bytearray(write_codes(codes, info, prior))
    parts = inspect(bytes(data))
    data[parts.header + parts.chunks[0].framed + 200] ^= 1
    stream = read_available(bytes(data), [prior])
    filled = complete(stream, prior, Fill.prior)
    assert torch.equal(filled.codes.digits[0][stream.known], codes.digits[0][stream.known])
    left = complete(stream, prior, Fill.zero)
    assert (filled.kept[0, [0, 1, 4, 5]] == 24).all()
    assert left.kept[0, 2:4].unique().tolist() == [1, 2]
    assert torch.equal(filled.kept, left.kept)
    data[parts.header + parts.chunks[0].framed + 20] ^= 1
    stream = read_available(bytes(data), [prior])
    assert complete(stream, prior, Fill.zero).kept[0, 2:4].max() == 0
    assert (complete(stream, prior, Fill.prior).kept[0, 2:4] == 1).all()
    left = complete(stream, prior, Fill.zero)
    assert torch.equal(left.codes.digits, stream.codes.digits)
    assert "is damaged" in tell_missing(stream, len(data))


def test_the_first_layer_is_filled_in() -> None:
    settings = MaskedSettings(radices=(2,) * 12, layer_digits=4, passes=(3, 2), width=16, blocks=1, chain_width=16)
    prior, info = MaskedPrior(settings), describe((2,) * 12, height=256, width=256)
    assert (first_layer(prior), first_layer(EchoPrior())) == (4, 1)
    codes = likely_codes(info)
    data = write_codes(codes, info, prior)
    stream = read_available(data[: inspect(data).header + 300], [prior])
    known = complete(stream, prior, Fill.zero).kept
    assert known.min() == 0
    assert known.max() == 4
    filled = complete(stream, prior, Fill.prior)
    assert (filled.kept == 4).all()
    assert torch.equal(filled.codes.digits[0][stream.known], codes.digits[0][stream.known])


def test_the_uniform_prior_has_nothing_to_fill_in() -> None:
    info = describe((2,) * 8, height=512, width=512)
    data = write_codes(likely_codes(info), info, UniformPrior())
    stream = read_available(data[: inspect(data).header + 140], [])
    assert stream.known.sum() > 0
    assert complete(stream, UniformPrior(), Fill.prior).kept.min() == 0


def test_shares_are_told_in_runs() -> None:
    assert tell_digits(np.array([1, 1, 1, 0.5, 0.25, 0, 0])) == (
        "digits 1–3 of all tokens, 4–5 of 25.0 % to 50.0 % of the tokens, 6–7 of none"
    )
    assert tell_digits(np.array([0.00001, 0])) == "digit 1 of 0.1 % of the tokens, 2 of none"
    assert tell_digits(np.array([0.99999])) == "digit 1 of 99.9 % of the tokens"


@pytest.mark.parametrize("prior", ["adaptive", "raw"])
def test_files_of_a_given_size(tiny_tokenizer: Tokenizer, prior: str) -> None:
    picture, chosen = noise(64, 96), prior_called(prior, tiny_tokenizer)
    sizes = [len(compress(picture, tiny_tokenizer, bits, chosen, search=0)) for bits in range(1, 13)]
    assert sizes == sorted(set(sizes))
    for target in (sizes[0], sizes[3] - 1, sizes[3], sizes[7] + 1, sizes[11], 10**9):
        data = compress(picture, tiny_tokenizer, prior=chosen, max_bytes=target, search=0)
        assert len(data) == max(size for size in sizes if size <= target)
    assert inspect(compress(picture, tiny_tokenizer, 5, chosen, max_bytes=10**9)).info.kept == 5
    with pytest.raises(LimitError, match=f"takes {sizes[0]}"):
        compress(picture, tiny_tokenizer, prior=chosen, max_bytes=sizes[0] - 1)


def test_a_target_is_met_with_few_trials_and_one_encoding(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"latent": 0, "write": 0}

    def counted(name: str, call: object) -> object:
        def count(*arguments: object, **named: object) -> object:
            calls[name] += 1
            return call(*arguments, **named)  # type: ignore[operator]

        return count

    monkeypatch.setattr(Tokenizer, "latent", counted("latent", Tokenizer.latent))
    monkeypatch.setattr("bsq.codec.writer.CodedStream", counted("write", CodedStream))
    compress(noise(40, 40), tiny_tokenizer, max_bytes=100, search=0)
    assert calls["latent"] == 1
    assert calls["write"] <= 7  # 5 to find the digits, 2 to find those that leave some room
