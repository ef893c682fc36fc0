"""`bsq info`: what .bsq files hold, without decoding them. What enters: names. What leaves: lines, or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from bsq.cli.batch import SOME_FAILED, naming, size, tell_failure
from bsq.cli.failures import debugging, say
from bsq.cli.plan import find_all, opened
from bsq.errors import StreamError

if TYPE_CHECKING:
    from bsq.codec.measure import StreamParts

EPILOG = """
**Examples**

`bsq info photo.bsq`

`bsq info --json photo.bsq | jq .bits_per_pixel`
"""


@dataclass(frozen=True)
class Facts:
    """What is said of one stream; the names are those of the JSON. Sizes are in bytes, bits where they say so."""

    file: str
    kind: str
    width: int
    height: int
    frames: int
    frame_rate: str | None
    seconds: float | None
    frames_per_group: int
    groups: int
    bytes: int
    bits_per_pixel: float
    raw_bits_per_pixel: float
    grid: tuple[int, int, int]
    patch: int
    kept_digits: int
    levels: tuple[int, ...]
    colours: tuple[int, ...]
    all_digits: int
    model: str
    model_hash: str
    prior: str
    prior_hash: str
    portable: bool
    header_bytes: int
    payload_bytes: int
    framing_bytes: int
    extra_bytes: int
    residual_bytes: int
    closing_bytes: int
    chunks: int
    trouble: str | None


def info(
    ctx: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Files, folders, or - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON: an object, or a list for several files.")] = False,
) -> None:
    """Show what .bsq files hold: size, rate, model, prior and the bytes of each part."""
    from bsq.codec.measure import inspect_file

    found, seen, troubles, failures = find_all(sources, frozenset({".bsq"})), list[Facts](), list[StreamError](), 0
    for item in found:
        try:
            with naming(item.name), opened(item.place) as file:
                parts = inspect_file(file)
        except Exception as error:
            if len(found) == 1:
                raise
            failures += 1
            tell_failure(item.name, error, debugging(ctx))
            continue
        seen.append(facts(item.name, parts))
        if parts.trouble is not None:
            troubles.append(parts.trouble)
    if as_json:
        documents = [asdict(one) for one in seen]
        typer.echo(json.dumps(documents[0] if len(found) == 1 else documents, indent=2, ensure_ascii=False))
    elif seen:
        typer.echo("\n\n".join(described(one) for one in seen))
    if len(found) == 1 and troubles:
        with naming(found[0].name):
            raise troubles[0]
    if failures or troubles:
        say(f"{failures + len(troubles)} of {len(found)} files are not sound")
        raise typer.Exit(SOME_FAILED)


def facts(name: str, parts: StreamParts) -> Facts:
    """What `bsq info` tells of one file."""
    stream = parts.info
    pixels = stream.width * stream.height * stream.frames
    return Facts(
        file=name,
        kind=stream.kind,
        width=stream.width,
        height=stream.height,
        frames=stream.frames,
        frame_rate=None if stream.frame_rate is None else str(stream.frame_rate),
        seconds=None if stream.frame_rate is None else float(stream.frames / stream.frame_rate),
        frames_per_group=stream.group_size,
        groups=stream.group_count,
        bytes=parts.total,
        bits_per_pixel=8 * parts.total / pixels,
        raw_bits_per_pixel=parts.raw_bits / pixels,
        grid=(stream.grid.frames, stream.grid.height, stream.grid.width),
        patch=stream.patch,
        kept_digits=stream.kept,
        levels=stream.levels,
        colours=stream.colours,
        all_digits=len(stream.radices),
        model=stream.tokenizer,
        model_hash=stream.code_hash.hex(),
        prior=parts.prior,
        prior_hash=parts.identity.hex(),
        portable=parts.portable,
        header_bytes=parts.header,
        payload_bytes=parts.payload,
        framing_bytes=parts.framing,
        extra_bytes=parts.extra,
        residual_bytes=parts.residual,
        closing_bytes=parts.closing,
        chunks=len(parts.chunks),
        trouble=None if parts.trouble is None else str(parts.trouble),
    )


def described(one: Facts) -> str:
    """The facts for people."""
    frames, rows, columns = one.grid
    lines = {one.kind: f"{one.width} × {one.height} pixels"} | described_time(one)
    lines |= {
        "file": f"{size(one.bytes)}, {one.bits_per_pixel:.4f} bits per pixel (uncoded {one.raw_bits_per_pixel:.4f})",
        "parts": f"header {one.header_bytes}, coded {one.payload_bytes} in {one.chunks} chunk"
        f"{'' if one.chunks == 1 else 's'}, framing {one.framing_bytes}"
        f"{f', others {one.extra_bytes}' if one.extra_bytes else ''}, closing {one.closing_bytes} bytes",
        "codes": f"{frames} × {rows} × {columns} tokens, {told_kept(one)} of {one.all_digits} digits, "
        f"patch {one.patch}",
        "model": f"{one.model or 'without a name'}, hash {one.model_hash}",
        "prior": f"{one.prior}, {'same on every machine' if one.portable else 'not portable'}"
        + (f", hash {one.prior_hash}" if one.prior_hash.strip("0") else ""),
    }
    if one.colours:
        lines["colours"] = f"set right by the map {' '.join(map(str, one.colours))}"
    if one.residual_bytes:
        lines["residual"] = f"{one.residual_bytes} bytes of what larger parts lack"
    if one.trouble:
        lines["trouble"] = one.trouble
    width = max(map(len, lines))
    return "\n".join([one.file, *(f"  {name:<{width}}  {value}" for name, value in lines.items())])


def told_kept(one: Facts) -> str:
    """Which digits of a code there are."""
    *less, most = one.levels or (one.kept_digits,)
    return f"the first {', '.join(map(str, less))} or {most}" if less else f"the first {most}"


def described_time(one: Facts) -> dict[str, str]:
    """What only videos have."""
    if one.frame_rate is None or one.seconds is None:
        return {}
    rate = f"{float(Fraction(one.frame_rate)):.5g} a second" + (f" ({one.frame_rate})" if "/" in one.frame_rate else "")
    return {
        "time": f"{one.frames} frames, {rate}, {one.seconds:.2f} s, {8 * one.bytes / one.seconds / 1000:.1f} kb/s",
        "groups": f"{one.groups} of {one.frames_per_group} frame{'' if one.frames_per_group == 1 else 's'}",
    }
