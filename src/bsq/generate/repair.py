"""What a damaged stream lacks, made by a generator. What enters: what was read of it. What leaves: codes to decode."""

from __future__ import annotations

from bsq.codec.recover import PartialCodes
from bsq.codec.stream import DecodedStream
from bsq.generate.edit import Editor


def repair(stream: DecodedStream, editor: Editor, number: int | None = None, seed: int = 0) -> PartialCodes:
    """The codes of a stream read by `read_available`; digits that it gave stay, tokens without their first digits get
    them from the generator. Beside the likeliest digits (`bsq.codec.recover`), these are one possible picture.
    """
    kept = stream.known.long().cumprod(-1).sum(-1)[None]
    edited = editor.complete(stream.codes, kept, number, seed)
    length = stream.codes.length
    # A token that was written with fewer digits lacks none.
    whole = ~stream.missing.any(-1)[None]
    return PartialCodes(
        edited.codes.first(min(edited.codes.length, length)), kept.where(whole, edited.kept.clamp(max=length))
    )
