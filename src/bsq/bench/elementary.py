"""Files without their wrapping. What enters: a JPEG, WebP, AVIF or JPEG XL file's bytes. What leaves: its coded data.

So that small pictures do not measure containers, rival codecs are charged only for what their decoders must know:
everything that names, frames or describes the data is left out, as each function says. Raises MediaError for bytes that
are not such a file.
"""

from __future__ import annotations

from collections.abc import Iterator

from bsq.errors import MediaError

JPEG_START, JPEG_SCAN, JPEG_COMMENT = b"\xff\xd8", 0xDA, 0xFE
JPEG_XL_START = b"\xff\x0a"
AV1_TEMPORAL_DELIMITER, AV1_SEQUENCE_HEADER = b"\x12\x00", 1


def jpeg_stream(data: bytes) -> bytes:
    """Without application segments (JFIF, Exif, profiles) and comments; tables, frame and scans stay (ITU-T T.81)."""
    if data[:2] != JPEG_START:
        raise MediaError(f"not a JPEG file: it begins with {data[:2]!r}")
    kept, at = [data[:2]], 2
    while at + 4 <= len(data):
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == JPEG_SCAN:
            return b"".join([*kept, data[at:]])
        if not (0xE0 <= marker <= 0xEF or marker == JPEG_COMMENT):
            kept.append(data[at:end])
        at = end
    raise MediaError("a JPEG file without a scan")


def webp_stream(data: bytes) -> bytes:
    """The VP8 or VP8L frame, without RIFF and chunk headers and padding (RFC 9649)."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise MediaError(f"not a WebP file: it begins with {data[:12]!r}")
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise MediaError("a WebP file without a still picture")


def avif_stream(data: bytes) -> bytes:
    """The AV1 units of the primary item from the sequence header on, without any box (ISO 23008-12, av1-avif)."""
    meta = dict(boxes(data)).get(b"meta")
    if meta is None:
        raise MediaError("not an AVIF file: it has no meta box")
    parts = dict(boxes(meta[4:]))
    if b"pitm" not in parts or b"iloc" not in parts:
        raise MediaError("an AVIF file without a primary item")
    primary = int.from_bytes(parts[b"pitm"][4 : 6 if parts[b"pitm"][0] == 0 else 8])
    stream = b"".join(data[start : start + length] for start, length in item_extents(parts[b"iloc"], primary))
    stream = stream.removeprefix(AV1_TEMPORAL_DELIMITER)
    if not stream or stream[0] >> 3 & 15 != AV1_SEQUENCE_HEADER:
        raise MediaError("the primary item of an AVIF file does not begin with a sequence header")
    return stream


def jpeg_xl_stream(data: bytes) -> bytes:
    """The bare codestream as it is (ISO 18181-1); files in a container are refused, since we never write them."""
    if data[:2] != JPEG_XL_START:
        raise MediaError(f"not a bare JPEG XL codestream: it begins with {data[:12]!r}")
    return data


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box (ISO 14496-12 §4.2)."""
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        end = len(data) if size == 0 else at + size
        if end < at + head or end > len(data):
            raise MediaError("a box of an AVIF file runs over its end")
        yield data[at + 4 : at + 8], data[at + head : end]
        at = end


def item_extents(iloc: bytes, wanted: int) -> list[tuple[int, int]]:
    """(start, length) in the file of each extent of an item (ISO 14496-12 §8.11.3)."""
    version, at = iloc[0], 6
    offset_size, length_size, base_size, index_size = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(iloc):
            raise MediaError("the item locations of an AVIF file are cut short")
        at += size
        return int.from_bytes(iloc[at - size : at])

    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version > 0 else 0
        number(2)
        base, extents = number(base_size), []
        for _ in range(number(2)):
            number(index_size if version > 0 else 0)
            extents.append((base + number(offset_size), number(length_size)))
        if item == wanted:
            if method:
                raise MediaError("an AVIF file whose picture lies in its meta box")
            return extents
    raise MediaError(f"an AVIF file that does not say where its item {wanted} lies")
