"""Features of pictures for measures of sets. What enters: pixels. What leaves: `Features`, float64, one row a picture.

A row does not depend on how pictures are batched: networks are given `at_once` pictures at a time, never fewer, one
unless asked otherwise. Other values of `at_once` move rows by float32 roundings (about 1e-6 of their length).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from bsq.errors import NumericsError, SettingsError, ShapeError
from bsq.frozen import files, inception, scripts
from bsq.frozen.lpips import HEADS, Lpips, load_lpips
from bsq.metrics.pixel import PEAK, to_255

Rounding = Literal["uint8", "none"]
LEAST_SIDE = 17  # of SqueezeNet
SQUEEZE_TAP = -1  # the last Fire module: 512 channels


@dataclass(frozen=True, eq=False)
class Features:
    """Float64, on the CPU."""

    pooled: Tensor  # (B, D)
    spatial: Tensor | None = None  # (B, D2), for sFID
    logits: Tensor | None = None  # (B, K) up to a constant a row, for the inception score

    def __post_init__(self) -> None:
        for part in (self.pooled, self.spatial, self.logits):
            if part is None:
                continue
            if part.ndim != 2 or len(part) != len(self.pooled) or part.dtype != torch.float64 or not part.shape[1]:
                raise ShapeError(f"features must be float64 (B, D), got {part.dtype} {tuple(part.shape)}")
            if not bool(part.isfinite().all()):
                raise NumericsError("the features of a picture hold NaN or infinity")

    def __len__(self) -> int:
        return len(self.pooled)


class FeatureNetwork(Protocol):
    """A network that sees pictures.

    name             "inception-2015-12-05"
    weights_sha256   of the file its weights were read from; None when there is no file
    label            begins with "comparable" or "not comparable", and says with what, or why not
    """

    @property
    def name(self) -> str: ...

    @property
    def weights_sha256(self) -> str | None: ...

    @property
    def label(self) -> str: ...

    def pictures(self, pixels: Tensor) -> Features:
        """Float (B, 3, H, W) in [−1, 1] → their features."""
        ...


class InceptionNetwork:
    """The Inception of pytorch-fid: pooled 2048, spatial 2023, 1008 logits."""

    def __init__(
        self,
        weights: Path | str | None = None,
        device: torch.device | str = "cpu",
        resize: inception.Resize = "pytorch-fid",
        at_once: int = 1,
    ) -> None:
        """`weights` as `bsq.frozen.inception.load_inception` takes them."""
        network, self.weights_sha256 = inception.load_inception(weights)
        self._network = network.to(device)
        self._device, self._resize, self._at_once = device, resize, _positive(at_once)
        self.name = f"inception-2015-12-05, resized as {resize}"
        self.label = label_of(self.weights_sha256, inception.PUBLISHED)

    def pictures(self, pixels: Tensor) -> Features:
        return by_pieces(self._piece, pixels, self._at_once, self._device)

    def _piece(self, pixels: Tensor) -> Features:
        found = self._network(inception.prepare(pixels.to(self._device, torch.float32), self._resize))
        return Features(*(plain(part) for part in (found.pooled, found.spatial, found.logits)))


class ScriptInception:
    """StyleGAN2-ADA's TorchScript file of the same Inception, which takes whole numbers and resizes them itself."""

    name = "inception-2015-12-05 (TorchScript)"

    def __init__(self, path: Path | str | None = None, device: torch.device | str = "cpu", at_once: int = 1) -> None:
        """Without a path the file is found or downloaded as `bsq.frozen.files` does."""
        self._script = scripts.find_script(scripts.INCEPTION, path, device)
        self._device, self._at_once = device, _positive(at_once)
        self.weights_sha256 = self._script.sha256
        self.label = label_of(self.weights_sha256, scripts.INCEPTION)

    def pictures(self, pixels: Tensor) -> Features:
        return by_pieces(self._piece, pixels, self._at_once, self._device)

    def _piece(self, pixels: Tensor) -> Features:
        whole = to_255(pixels).round().to(torch.uint8).to(self._device)
        pooled = called(self._script, whole, return_features=True)
        chances = called(self._script, whole, no_output_bias=True)  # softmax of the logits without their bias
        return Features(
            plain(pooled.flatten(1)), logits=plain(chances).clamp_min(torch.finfo(torch.float32).tiny).log()
        )


class ScriptNetwork:
    """Any network saved as TorchScript that maps float32 (B, 3, H, W) in [−1, 1] to (B, D) or (B, D, h, w)."""

    def __init__(self, path: Path | str, device: torch.device | str = "cpu", at_once: int = 1) -> None:
        self._script = scripts.load_script(path, device)
        self._device, self._at_once = device, _positive(at_once)
        self.name = self._script.path.name
        self.weights_sha256 = self._script.sha256
        self.label = f"not comparable: features of {self.name}"

    def pictures(self, pixels: Tensor) -> Features:
        return by_pieces(self._piece, pixels, self._at_once, self._device)

    def _piece(self, pixels: Tensor) -> Features:
        found = called(self._script, pixels.to(self._device, torch.float32))
        return Features(plain(found.flatten(2).mean(2) if found.ndim == 4 else found))


class SqueezeNetwork:
    """SqueezeNet 1.1, which comes with the package: means over places of its last Fire module, 512 a picture."""

    name = "squeezenet-1.1"
    label = "not comparable: SqueezeNet features"

    def __init__(self, device: torch.device | str = "cpu", at_once: int = 1) -> None:
        self._network: Lpips = load_lpips("squeeze").to(device)
        self._device, self._at_once = device, _positive(at_once)
        self.weights_sha256 = files.sha256(files.find(HEADS["squeeze"]))

    def pictures(self, pixels: Tensor) -> Features:
        if min(pixels.shape[-2:]) < LEAST_SIDE:
            raise ShapeError(f"SqueezeNet needs sides of at least {LEAST_SIDE} pixels, got {tuple(pixels.shape)}")
        return by_pieces(self._piece, pixels, self._at_once, self._device)

    def _piece(self, pixels: Tensor) -> Features:
        network = self._network
        normalised = (pixels.to(self._device, torch.float32) - network.shift) / network.scale
        return Features(plain(network.backbone.features(normalised)[SQUEEZE_TAP].mean((2, 3))))


def rounded(pixels: Tensor, rounding: Rounding) -> Tensor:
    """Pixels (B, 3, H, W) or (B, 3, T, H, W), checked to be finite and in [−1, 1]; for "uint8" moved to the 256 levels
    that a file can hold, as published protocols measure them. Raises ShapeError or NumericsError.
    """
    if pixels.ndim not in (4, 5) or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(
            f"expected pixels (B, 3, H, W) or (B, 3, T, H, W), none of them empty; got {tuple(pixels.shape)}"
        )
    scaled = to_255(pixels)
    match rounding:
        case "none":
            return pixels.detach()
        case "uint8":
            levels = scaled.clamp(0, PEAK).round() / (PEAK / 2) - 1
            if pixels.ndim == 5:
                levels = levels.unflatten(0, (len(pixels), -1)).transpose(1, 2)
            return levels
        case _:
            raise SettingsError(f"no rounding named {rounding!r}; there are uint8 and none")


@contextmanager
def steadily(device: torch.device | str) -> Iterator[None]:
    """No gradients, and float32 as it is: whatever the caller's autocast, without TF32, by algorithms that repeat."""
    kind = torch.device(device).type
    plain_float32 = torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), torch.autocast(kind, enabled=False), plain_float32:
        yield


def by_pieces(
    network: Callable[[Tensor], Features], pixels: Tensor, at_once: int, device: torch.device | str
) -> Features:
    """The features of all pictures, `at_once` at a time; copies of the last fill up the last piece.

    Kernels are chosen by the number of pictures and round differently, so a shorter piece would move its rows.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise ShapeError(f"expected pixels (B, 3, H, W), none of them empty; got {tuple(pixels.shape)}")
    with steadily(device):
        filling = pixels[-1:].expand(-len(pixels) % at_once, -1, -1, -1)
        found = [network(piece) for piece in torch.cat([pixels, filling]).split(at_once)]
    parts = ([getattr(one, name) for one in found] for name in ("pooled", "spatial", "logits"))
    pooled, spatial, logits = (_joined(part, len(pixels)) for part in parts)
    assert pooled is not None
    return Features(pooled, spatial, logits)


def _joined(parts: list[Tensor | None], count: int) -> Tensor | None:
    """The first `count` rows, one below the other; None where the network does not give that part."""
    given = [part for part in parts if part is not None]
    return torch.cat(given)[:count] if given else None


def label_of(found_sha256: str, published: files.WeightFile) -> str:
    """Whether values in a file's features may stand beside published ones."""
    if published.sha256 is not None and found_sha256 == published.sha256:
        return f"comparable with values in {published.name}"
    return f"not comparable: weights other than {published.name}"


def plain(found: Tensor) -> Tensor:
    """As features are kept: float64 on the CPU."""
    return found.detach().cpu().double()


def called(script: scripts.Script, *tensors: Tensor, **words: bool) -> Tensor:
    """What a script gives for tensors; ShapeError when it does not take them."""
    try:
        with torch.jit.optimized_execution(False):  # what the optimizer fuses after some calls rounds otherwise
            found = script.network(*tensors, **words)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise ShapeError(f"{script.path} does not take {tuple(tensors[0].shape)}: {last}") from error
    if not isinstance(found, Tensor):
        raise ShapeError(f"{script.path} gives a {type(found).__name__}, expected one tensor of features")
    return found


def _positive(count: int) -> int:
    if count < 1:
        raise SettingsError(f"a network must be given 1 picture or more at once, not {count}")
    return count
