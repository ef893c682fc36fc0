"""A tokenizer to a folder of programs. What enters: a tokenizer, a format. What leaves: encoder, decoder, export.json.

Batch, height, width and the number of bits stay open; the folder's `export.json` says what the programs take. Whatever
was written is read back and compared with the tokenizer before the folder is there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from bsq import __version__
from bsq.codes import Codes
from bsq.errors import CheckpointError, MissingDependencyError, SettingsError
from bsq.export.networks import PictureDecoder, PictureEncoder
from bsq.layers.positions import LearnedPositionsSettings
from bsq.layers.products import plain_products
from bsq.layers.windows import WindowAttentionSettings
from bsq.tokenizer import Tokenizer

RECORD_FILE = "export.json"
MOST_PICTURES = 4096
MOST_TOKENS = 4096  # along an axis


class Format(StrEnum):
    """What the programs are written as."""

    torch_export = "torch-export"
    onnx = "onnx"

    @property
    def suffix(self) -> str:
        return {Format.torch_export: ".pt2", Format.onnx: ".onnx"}[self]


@dataclass(frozen=True)
class Exported:
    """What `export.json` says. `size` (H, W) in pixels where it is fixed; else each side has at least `least_side`."""

    format: str
    encoder: str
    decoder: str
    code_hash: str
    patch: int
    radices: tuple[int, ...]
    size: tuple[int, int] | None
    least_side: int
    bsq: str
    torch: str


@dataclass(frozen=True)
class Difference:
    """Programs beside the tokenizer they came from: digits that differ, of how many; the farthest pixel, of [−1, 1]."""

    pictures: int
    digits: int
    unequal_digits: int
    farthest_pixel: float


Program = Callable[[Tensor], Tensor]


def export_model(
    tokenizer: Tokenizer, folder: Path, format: Format = Format.torch_export, size: tuple[int, int] | None = None
) -> Exported:
    """Write `encoder` and `decoder` programs for pictures, and export.json, into a new folder.

    The encoder turns pixels float32 (B, 3, H, W) in [−1, 1] into all digits (B, ⌈H/p⌉, ⌈W/p⌉, L); the first k of them
    are the first k. The decoder turns digits (B, h, w, k), any k from 1 to L, into pixels (B, 3, h·p, w·p).

    Args:
        tokenizer: with codes; its weights go into both files.
        folder: must not be there yet.
        format: torch.export's .pt2, or ONNX.
        size: (H, W) in pixels to fix; default: open, from one window upwards. A model with learned positions has the
            size of its table.

    Raises:
        SettingsError: a continuous latent, or a size that the model does not take. CheckpointError: the folder is
        there, cannot be written, or the programs do not give the tokenizer's codes. MissingDependencyError: for ONNX.
    """
    record = describe(tokenizer, format, size)
    if folder.exists():
        raise CheckpointError(f"{folder} is there already")
    draft = begin_draft(folder)
    try:
        encoder, decoder = trace(tokenizer, record)
        save(encoder, draft / record.encoder, format, "pixels", "digits")
        save(decoder, draft / record.decoder, format, "digits", "pixels")
        (draft / RECORD_FILE).write_text(json.dumps(asdict(record), indent=2) + "\n")
        probe = check_export(draft, tokenizer, [probe_picture(*(record.size or probe_size(record)))])
        if probe.unequal_digits > probe.digits // 1000 or probe.farthest_pixel > 0.01:
            raise CheckpointError(f"the programs do not give what the model gives: {probe}")
        os.chmod(draft, 0o755)
        os.rename(draft, folder)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return record


def begin_draft(folder: Path) -> Path:
    """A hidden folder beside the one that is asked for. Raises CheckpointError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror or error}") from error


def check_export(folder: Path, tokenizer: Tokenizer, pictures: Iterable[Tensor]) -> Difference:
    """The folder's programs beside `tokenizer` on pictures (B, 3, H, W) in [−1, 1]: codes, and what they decode to.

    The tokenizer runs in the programs' arithmetic. Its own on a CPU adds in another order: a latent within 10⁻⁶ of zero
    may fall to the other side.
    """
    encode, decode = open_programs(folder)
    count = digits = unequal = 0
    farthest = 0.0
    for pixels in pictures:
        theirs = encode(pixels)
        with plain_products():
            codes = tokenizer.encode(pixels)
            again = tokenizer.decode(Codes(theirs[:, None], codes.radices))[:, :, 0]
        unequal += int((theirs != codes.digits[:, 0]).sum())
        farthest = max(farthest, float((decode(theirs) - again).abs().max()))
        count, digits = count + len(pixels), digits + theirs.numel()
    return Difference(count, digits, unequal, farthest)


def open_programs(folder: Path) -> tuple[Program, Program]:
    """Encoder and decoder of an exported folder, on tensors. Raises CheckpointError, MissingDependencyError."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        paths = folder / record["encoder"], folder / record["decoder"]
        format = Format(record["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is no folder of exported programs: {error!r}") from error
    first, second = (open_program(path, format) for path in paths)
    return first, second


def open_program(path: Path, format: Format) -> Program:
    """The exported file as a function of tensors. Raises MissingDependencyError for ONNX without its runtime."""
    match format:
        case Format.torch_export:
            return torch.no_grad()(torch.export.load(path).module())
        case Format.onnx:
            require_onnx()
            import onnxruntime

            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (name,) = (given.name for given in session.get_inputs())
            return lambda given: torch.from_numpy(session.run(None, {name: given.numpy()})[0])


def describe(tokenizer: Tokenizer, format: Format, size: tuple[int, int] | None) -> Exported:
    """What will be written. Raises SettingsError, MissingDependencyError."""
    if not tokenizer.radices:
        raise SettingsError("a kl tokenizer has a continuous latent and makes no codes to export")
    if format is Format.onnx:
        require_onnx()
    patch = tokenizer.patch
    sides = (tokenizer.settings.encoder, tokenizer.settings.decoder)
    for table in (side.positions for side in sides):
        if isinstance(table, LearnedPositionsSettings):
            own = table.rows * patch, table.columns * patch
            if size not in (None, own):
                raise SettingsError(f"learned positions fix the size: {own[0]}x{own[1]} pixels, got {size}")
            size = own
    if size is not None and min(size) < 1:
        raise SettingsError(f"a size is two numbers of pixels from 1 up, got {size}")
    windows = [side.attention.size for side in sides if isinstance(side.attention, WindowAttentionSettings)]
    return Exported(
        format=format.value,
        encoder=f"encoder{format.suffix}",
        decoder=f"decoder{format.suffix}",
        code_hash=tokenizer.code_hash,
        patch=patch,
        radices=tokenizer.radices,
        size=size,
        least_side=max([patch + 1, *(window * patch + 1 for window in windows)]),
        bsq=__version__,
        torch=torch.__version__,
    )


def trace(tokenizer: Tokenizer, record: Exported) -> tuple[ExportedProgram, ExportedProgram]:
    """Encoder and decoder, on the CPU, for any batch and, unless it is fixed, any size from one window upwards."""
    height, width = record.size or probe_size(record)
    pixels = torch.zeros(2, 3, height, width)
    digits = torch.zeros(2, *tokenizer.grid(height, width), len(record.radices), dtype=torch.uint8)
    batch = {0: Dim("batch", min=1, max=MOST_PICTURES)}
    of_pixels: dict[int, Any] = batch | {}
    of_digits: dict[int, Any] = batch | {}
    if record.size is None:
        least, most = record.least_side, MOST_TOKENS * record.patch
        of_pixels |= {2: Dim("height", min=least, max=most), 3: Dim("width", min=least, max=most)}
        least = -(-least // record.patch)
        of_digits |= {n: Dim(name, min=least, max=MOST_TOKENS) for n, name in ((1, "rows"), (2, "columns"))}
    if len(record.radices) > 1:
        of_digits[3] = Dim("bits", min=1, max=len(record.radices))
    if max(record.radices) > 256:
        digits = digits.int()
    encoder, decoder = PictureEncoder(tokenizer).eval(), PictureDecoder(tokenizer).eval()
    return trace_one(encoder, pixels, of_pixels), trace_one(decoder, digits, of_digits)


@torch.no_grad()
def trace_one(network: nn.Module, given: Tensor, open_axes: dict[int, Any]) -> ExportedProgram:
    return torch.export.export(
        network, (given,), dynamic_shapes=(open_axes,), prefer_deferred_runtime_asserts_over_guards=True
    )


def save(program: ExportedProgram, path: Path, format: Format, given: str, made: str) -> None:
    """Write the program; `given` and `made` name its input and output in ONNX."""
    match format:
        case Format.torch_export:
            torch.export.save(program, path)
        case Format.onnx:
            with quiet():
                written = torch.onnx.export(
                    program, input_names=[given], output_names=[made], dynamo=True, verbose=False, external_data=False
                )
            assert written is not None
            written.save(path)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on libraries that it looks for and we do not use."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(before)


def probe_size(record: Exported) -> tuple[int, int]:
    """No round number, and more than one window each way."""
    return 2 * record.least_side + 3, record.least_side + record.patch + 2


def probe_picture(height: int, width: int) -> Tensor:
    """Waves and noise (1, 3, H, W): every digit takes both values somewhere."""
    rows, columns = torch.arange(height)[:, None] / 9, torch.arange(width) / 7
    waves = torch.stack([torch.sin(rows + k * columns) for k in range(3)])[None]
    return (waves / 2 + torch.rand(waves.shape, generator=torch.Generator().manual_seed(0)) - 0.5).clamp(-1, 1)


def require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"ONNX needs {error.name}; pip install 'bsq[export]'") from error
