"""Chunks that wait. What enters: the chunks of a conversation. What leaves: the same, behind their stream's header.

What a header says, how many frames there are or how colours are set right, may be known only when all is coded.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from bsq.codec.container import ContainerWriter
from bsq.codec.framing import Form

RECORD = struct.Struct("<BQQ")  # form, steps and length of a chunk that waits
GROUP = 255  # in place of a form: a group begins


class WaitingChunks:
    """Chunks that wait in a file for their stream's header; `size` is what they take. Closes the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = 0
        self._file = file

    def begin_group(self) -> None:
        """As `ChunkSink`."""
        self._file.write(RECORD.pack(GROUP, 0, 0))

    def add(self, form: Form, steps: int, payload: bytes) -> None:
        """As `ChunkSink`."""
        self.size += RECORD.size + len(payload)
        self._file.write(RECORD.pack(form.value, steps, len(payload)) + payload)

    def move_to(self, writer: ContainerWriter) -> None:
        """All of them, in order."""
        self._file.seek(0)
        while record := self._file.read(RECORD.size):
            form, steps, length = RECORD.unpack(record)
            if form == GROUP:
                writer.begin_group()
            else:
                writer.add(Form(form), steps, self._file.read(length))

    def close(self) -> None:
        self._file.close()
