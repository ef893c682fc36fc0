"""What a reader of videos opens. What enters: a path, bytes or a binary file. What leaves: a file to search in."""

from __future__ import annotations

import io
import os
import tempfile
from typing import BinaryIO

from bsq.data.files import plain_reason
from bsq.data.pictures import Source
from bsq.errors import MediaError


def open_bytes(source: Source, name: str) -> BinaryIO:
    """A file that can be searched. What cannot (a pipe) is copied to a temporary one."""
    try:
        if isinstance(source, bytes):
            return io.BytesIO(source)
        if isinstance(source, str | os.PathLike):
            return open(source, "rb")
        if source.seekable():
            return io.BytesIO(source.read()) if not hasattr(source, "fileno") else source
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        while part := source.read(1 << 20):
            copy.write(part)
        copy.seek(0)
        return copy
    except OSError as error:
        raise MediaError(f"cannot read {name}: {plain_reason(error)}") from error
    except AttributeError as error:
        raise MediaError(f"a video is a path, bytes or a binary file; got {type(source).__name__}") from error
