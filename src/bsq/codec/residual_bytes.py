"""A residual as bytes. What enters: its layers, or the payload of a stream's chunk. What leaves: the other.

The values of a layer are digits of small signed numbers, and are coded as codes are (`bsq.codec.conversation`), with a
prior of their own; docs/format.md has the layout.
"""

from __future__ import annotations

import numpy as np
import torch

from bsq.codec.conversation import Table, read_group, write_group
from bsq.codec.fields import FieldReader, varint
from bsq.codec.framing import Chunk, Form
from bsq.codec.info import StreamInfo
from bsq.codec.residual import LARGEST_VALUE, Layer, Residual, most_nodes, node_grid
from bsq.codes import Codes
from bsq.errors import DamagedStreamError, TruncatedStreamError
from bsq.prior.base import Grid
from bsq.prior.sparse import SparsePrior, to_digits, to_values

MAX_LAYERS, MAX_STEP = 4, 255
SPACINGS = range(16, 4097)


def residual_bytes(residual: Residual) -> bytes:
    """The layers one after another, those of zeros left out; mirror of `read_residual`."""
    parts = []
    for layer in residual:
        largest = int(np.abs(layer.values).max())
        if not largest:
            continue
        digits = np.moveaxis(to_digits(layer.values), 0, -1).astype(np.uint8, order="C")
        coded, codes = OneChunk(), Codes(torch.from_numpy(digits)[None, None], (2 * largest + 1,) * 3)
        write_group(codes, SparsePrior(), coded)
        head = varint(layer.spacing), varint(layer.step), varint(largest)
        parts += [*head, varint(len(coded.payload) << 1 | coded.form.value), coded.payload]
    return b"".join(parts)


def read_residuals(payloads: tuple[bytes, ...], info: StreamInfo) -> Residual:
    """What a stream's chunks say of it; one at most. Raises DamagedStreamError."""
    if len(payloads) > 1:
        raise DamagedStreamError("the stream has two residuals")
    return read_residual(payloads[0], info) if payloads else ()


def read_residual(payload: bytes, info: StreamInfo) -> Residual:
    """The layers of a picture that `info` describes. Raises DamagedStreamError."""
    fields, layers, nodes = FieldReader(payload), list[Layer](), most_nodes(*info.size)
    try:
        while fields.left:
            if len(layers) == MAX_LAYERS:
                raise DamagedStreamError(f"a residual has at most {MAX_LAYERS} layers")
            layers.append(read_layer(fields, info, nodes))
            nodes -= layers[-1].values[0].size
    except TruncatedStreamError as error:
        raise DamagedStreamError("a residual's layers are longer than its chunk") from error
    return tuple(layers)


def read_layer(fields: FieldReader, info: StreamInfo, nodes: int) -> Layer:
    """The next layer, of so many nodes at most."""
    spacing, step, largest, tag = (fields.varint() for _ in range(4))
    if spacing not in SPACINGS or not 1 <= step <= MAX_STEP or not 1 <= largest <= LARGEST_VALUE:
        raise DamagedStreamError(
            f"a layer of a residual must have {SPACINGS.start} to {SPACINGS.stop - 1} pixels from node to node, steps "
            f"of 1 to {MAX_STEP} levels and values up to ±{LARGEST_VALUE}; got {spacing}, {step}, {largest}"
        )
    coded = fields.take(tag >> 1)
    grid = Grid(1, *node_grid(spacing, *info.size))
    if grid.tokens > nodes:
        raise DamagedStreamError(
            f"a residual of {info.width}×{info.height} pixels has at most {most_nodes(*info.size)} nodes"
        )
    digits = np.zeros((grid.tokens, 3), np.uint8)
    chunk = Chunk(Form(tag & 1), 1, coded, 0, len(coded), len(coded), 0)
    table = Table(digits, np.zeros(digits.shape, bool))
    if not read_group(table, SparsePrior(), grid, (2 * largest + 1,) * 3, [chunk]):
        raise DamagedStreamError("a layer of a residual is too short for its values")
    values = to_values(digits).reshape(grid.height, grid.width, 3)
    return Layer(spacing, step, np.moveaxis(values, -1, 0).copy())


class OneChunk:
    """Keeps the one chunk that a conversation without further steps makes."""

    form: Form
    payload: bytes

    def begin_group(self) -> None:
        """There is one group."""

    def add(self, form: Form, steps: int, payload: bytes) -> None:
        """Its only one."""
        assert steps == 1
        self.form, self.payload = form, payload
