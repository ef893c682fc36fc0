"""Rows of published tables. What enters: the name of a table. What leaves: `Line`s, marked as published.

All are of arXiv:2406.07548. Its LPIPS is of AlexNet, its rFID of pytorch-fid's Inception, its rFVD of StyleGAN-V's I3D,
its measures of generated pictures of guided-diffusion's suite; its throughput is of one A5000. Measured values in other
features stand in columns of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from bsq.errors import SettingsError
from bsq.evaluate.lines import (
    BITS,
    BITS_PER_PIXEL,
    CODE_USE,
    MS_SSIM_DB,
    PARAMETERS,
    PSNR,
    SSIM,
    Form,
    Line,
    Measure,
    frechet,
    inception_score,
    line,
    lpips,
    precision,
    recall,
)
from bsq.evaluate.protocols import PROTOCOLS, Protocol, PublishedTable

ORIGIN = "published, arXiv:2406.07548"
ALEX = lpips("alex")
RFID = frechet("rFID", "inception")
RFVD = frechet("rFVD", "i3d")
ADM = "adm"
A5000 = Measure("img/s on an A5000", 1, True)

Values = Sequence[float | None]

IMAGENET_256: tuple[tuple[str, Values], ...] = (
    ("DALL-E dVAE", (98, 13, 34, 25.46, 0.7385, 0.3127, 36.84)),
    ("SD-VAE 1.x (VQ)", (68, 14, 22.4, 22.82, 0.6354, 0.0912, 1.23)),
    ("SD-VAE 1.x (KL)", (68, 64, 22.4, 21.99, 0.6285, 0.0980, 1.35)),
    ("SD-VAE 2.x (KL)", (84, 64, 18.9, 25.08, 0.7054, 0.0731, 0.78)),
    ("BSQ-ViT", (174, 18, 45.1, 25.36, 0.7578, 0.0761, 1.14)),
    ("BSQ-ViT (EMA)", (174, 36, 45.1, 28.14, 0.8448, 0.0400, 0.45)),
)
QUANTIZERS_128: tuple[tuple[str, Values], ...] = (
    ("VQ, 10 bits", (10, 23.61, 7.05, 57.5)),
    ("VQ, 14 bits", (14, 25.76, 4.27, 100.0)),
    ("VQ, 16 bits", (16, 25.67, 6.61, 100.0)),
    ("BSQ, 10 bits", (10, 24.11, 4.51, 100.0)),
    ("BSQ, 14 bits", (14, 25.26, 4.60, 99.8)),
    ("BSQ, 18 bits", (18, 25.97, 2.66, 93.8)),
    ("LFQ, 18 bits", (18, 18.58, 30.7, 0.6)),
)
UCF101: tuple[tuple[str, Values], ...] = (
    ("image model, frame by frame", (18, 25.83, 0.8259, 0.1108, 342)),
    ("full attention", (18, 31.88, 0.9410, 0.0241, 10.57)),
    ("block-causal", (18, 31.49, 0.9357, 0.0254, 11.62)),
    ("block-causal, 36 bits", (36, 33.55, 0.9588, 0.0167, 6.21)),
)
KODAK: tuple[tuple[str, Values], ...] = (
    ("JPEG2000", (0.2986, 29.19, 11.574, 0.1892)),
    ("WebP", (0.2963, 29.15, 12.193, 0.1655)),
    ("MAGVIT-v2 (LFQ)", (0.2812, 23.47, 8.103, 0.1260)),
    ("VQ", (0.2812, 26.99, 12.580, 0.0944)),
    ("BSQ", (0.2812, 27.79, 12.852, 0.0823)),
    ("BSQ + arithmetic coding", (0.2073, 27.79, 12.852, 0.0823)),
)
GENERATION_128: tuple[tuple[str, Values], ...] = (
    ("BigGAN", (6.02, 145.8, 0.86, 0.35)),
    ("ADM", (5.91, 93.3, 0.70, 0.65)),
    ("MaskGIT + VQ", (9.4, None, None, None)),
    ("MaskGIT + FSQ", (8.5, None, None, None)),
    ("MaskGIT + BSQ", (5.44, 139.6, 0.80, 0.50)),
)


def published(table: PublishedTable) -> tuple[Line, ...]:
    """The rows of one table."""
    match table:
        case "imagenet-256":
            return _lines(IMAGENET_256, (PARAMETERS, BITS, A5000, PSNR, SSIM, ALEX, RFID))
        case "imagenet-128-quantizers":
            return _lines(QUANTIZERS_128, (BITS, PSNR, RFID, CODE_USE))
        case "ucf101":
            return _lines(UCF101, (BITS, PSNR, SSIM, ALEX, RFVD))
        case "kodak":
            return _lines(KODAK, (BITS_PER_PIXEL, PSNR, MS_SSIM_DB, ALEX))
        case "imagenet-128-generation":
            return _lines(GENERATION_128, (frechet("FID", ADM), inception_score(ADM), precision(ADM), recall(ADM)))
        case _:
            raise SettingsError(f"no published table {table!r}")


def published_beside(form: Form, protocol: Protocol) -> tuple[Line, ...]:
    """The rows of that form of table that were measured by this protocol. Raises SettingsError where there are none."""
    fitting = [table for table in tables_of(form) if table in protocol.published]
    if not fitting:
        there = [name for name, one in PROTOCOLS.items() if set(one.published) & set(tables_of(form))]
        raise SettingsError(
            f"no row of a {form.value.lower()} table was published by the protocol {protocol.name!r}; there are rows "
            f"of {', '.join(there)}"
        )
    return published(fitting[0])


def tables_of(form: Form) -> tuple[PublishedTable, ...]:
    """The published tables that a form of report can stand beside."""
    match form:
        case Form.RECONSTRUCTION:
            return ("imagenet-256", "imagenet-128-quantizers")
        case Form.VIDEO:
            return ("ucf101",)
        case Form.COMPRESSION:
            return ("kodak",)
        case Form.GENERATION:
            return ("imagenet-128-generation",)
        case _:
            raise AssertionError(form)


def _lines(rows: Sequence[tuple[str, Values]], measures: Sequence[Measure]) -> tuple[Line, ...]:
    return tuple(line(system, zip(measures, values, strict=True), ORIGIN) for system, values in rows)
