"""Pictures and videos told apart by their first bytes. What enters: a binary file. What leaves: which of the two it is.

A name's suffix decides only where the bytes say nothing.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import BinaryIO

from PIL import Image

from bsq.data.videos import VIDEO_SUFFIXES

HEAD = 512
PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
VIDEO_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide")
VIDEO_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"\0\0\1\xba",  # MPEG
    b"\0\0\1\xb3",
    b"YUV4MPEG2",
    b"DKIF",
    b"\0\0\0\1",  # H.264 and H.265 without a container
    *(b"ID3", b"fLaC", b"\xff\xfb"),  # sound, which the reader of videos has an error for
)


def is_video(file: BinaryIO, name: str = "") -> bool:
    """Whether a file that can be searched is a video, a GIF of several frames or a sound; others may be pictures.

    The file is left at its beginning.
    """
    head = file.read(HEAD)
    file.seek(0)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return is_animated(file)
    if head[:4] == b"RIFF":
        return head[8:12] in (b"AVI ", b"WAVE")
    if head[4:8] in VIDEO_BOXES:
        return not (head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS)
    if head.startswith(VIDEO_STARTS) or (head[:1] == b"G" and head[188:189] == b"G"):
        return True
    return not head.startswith(PICTURE_STARTS) and PurePath(name).suffix.lower() in VIDEO_SUFFIXES


def is_animated(file: BinaryIO) -> bool:
    """Whether Pillow finds several frames; the file is left at its beginning."""
    try:
        with Image.open(file) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow's decoders raise a dozen types on damaged files
        return False
    finally:
        file.seek(0)
