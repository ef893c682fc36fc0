"""Bytes by strangers: whatever comes in, a stream error or the right codes come out, in bounded time and memory."""

from __future__ import annotations

import random
import resource
from contextlib import suppress

import pytest
import torch
from streams import Sample, sample

from bsq.codec.checksum import crc32c
from bsq.codec.container import MAGIC, read_container
from bsq.codec.fields import varint
from bsq.codec.info import Limits
from bsq.codec.measure import inspect
from bsq.codec.stream import read_available, read_codes
from bsq.errors import StreamError
from bsq.prior.uniform import UniformPrior

SMALL = Limits(pixels=2**16, frames=2**8, tokens=2**10, digits=2**14)
HOSTILE = [0, 1, 2, 127, 128, 255, 2**14, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four of: a byte changed, cut, inserted, doubled; a hostile number put in; the end cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 1:
                del out[place : place + rng.randint(1, 4)]
            case 2:
                out[place:place] = rng.randbytes(rng.randint(1, 4))
            case 3:
                out[place:place] = out[place : place + rng.randint(1, 30)]
            case 4:
                out[place : place + 1] = varint(rng.choice(HOSTILE))
            case 5 if rng.random() < 0.2:
                del out[place:]
    return bytes(out)


def resign(data: bytes, header: int, length: int, rng: random.Random) -> bytes:
    """A stream whose header was changed by someone who can compute its checksum and that of its one chunk."""
    body = mutate(data[11 : header - 4], rng)[:127]
    head = MAGIC + data[8:10] + varint(len(body)) + body
    crc = crc32c(head)
    frame, payload = data[header : header + 2], data[header + 2 : header + 2 + length]
    chunk_crc = crc32c(bytes(8) + frame + payload, crc)
    chunk = frame + payload + chunk_crc.to_bytes(4, "little")
    return head + crc.to_bytes(4, "little") + chunk + data[header + 6 + length :]


def check_decoding(data: bytes, kind: Sample) -> None:
    """Errors or the right codes, from both readers."""
    for read in (read_codes, read_available):
        with suppress(StreamError):
            decoded = read(data, [kind.prior], SMALL)
            info, known = decoded.info, decoded.known
            if (info.grid, info.kept_radices) == (kind.info.grid, kind.info.kept_radices):
                assert torch.equal(decoded.codes.digits[0][known], kind.codes.digits[0][known])
            else:
                assert decoded.trouble is not None


def fuzz(count: int, seed: int) -> None:
    rng = random.Random(seed)
    kinds = [sample((2,) * 9, UniformPrior()), sample((2,) * 12), sample((2, 3, 7))]
    originals = []
    for kind in kinds:
        data = kind.data
        parts = inspect(data)
        assert len(parts.chunks) == 1
        originals.append((kind, data, parts.header, parts.payload))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        kind, data, header, length = originals[number % 3]
        changed = resign(data, header, length, rng) if number % 40 == 0 else mutate(data, rng)
        sound = False
        with suppress(StreamError):
            sound = read_container(changed, SMALL).trouble is None
        if sound or number % 200 == 1:
            check_decoding(changed, kind)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000, f"{after - before} KiB more memory"


def test_mutated_streams() -> None:
    fuzz(6_000, seed=1)


@pytest.mark.slow
def test_a_million_mutated_streams() -> None:
    fuzz(1_000_000, seed=2)
