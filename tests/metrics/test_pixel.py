import math
import sys

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bsq.errors import BsqError, DataError, MissingDependencyError, NumericsError, ShapeError
from bsq.metrics import ReconstructionMeter, decibels, ms_ssim, ms_ssim_3, psnr, ssim


def noisy_pair(
    count: int = 3, height: int = 40, width: int = 56, noise: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator) * 2 - 1
    reference = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (reference + noise * torch.randn(reference.shape, generator=generator)).clamp(-1, 1), reference


def as_255(pixels: torch.Tensor) -> np.ndarray:
    return ((pixels.double() + 1) * 127.5).permute(1, 2, 0).numpy()


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    pixels, reference = noisy_pair()
    for i in range(len(pixels)):
        shown, wanted = as_255(pixels[i]), as_255(reference[i])
        assert psnr(pixels, reference)[i].item() == pytest.approx(
            peak_signal_noise_ratio(wanted, shown, data_range=255), rel=1e-12
        )
        theirs = structural_similarity(
            wanted,
            shown,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert ssim(pixels, reference)[i].item() == pytest.approx(theirs, rel=1e-5)  # the window is float32


def test_psnr_closed_form() -> None:
    reference = torch.zeros(1, 3, 16, 16)
    assert psnr(reference + 2 / 255, reference).item() == pytest.approx(20 * math.log10(255), rel=1e-6)
    assert psnr(reference, reference).item() == math.inf


def test_ms_ssim_of_scales_by_hand() -> None:
    """Five scales of contrast-structure and the last scale's SSIM, multiplied with their published exponents."""
    pixels, reference = noisy_pair(2, 176, 192)
    exponents = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for i in range(2):
        shown, wanted = as_255(pixels[i]), as_255(reference[i])
        product = np.ones(3)
        for scale, exponent in enumerate(exponents):
            full, contrast = brute_force_ssim(shown, wanted)
            product *= (full if scale == 4 else contrast) ** exponent
            shown, wanted = halve(shown), halve(wanted)
        assert ms_ssim(pixels, reference)[i].item() == pytest.approx(product.mean(), rel=1e-5)


def test_ms_ssim_3_by_hand() -> None:
    """The first three scales, their exponents brought to a sum of 1; on pictures too small for five."""
    pixels, reference = noisy_pair(2, 48, 56)
    exponents = np.array((0.0448, 0.2856, 0.3001))
    for i in range(2):
        shown, wanted = as_255(pixels[i]), as_255(reference[i])
        product = np.ones(3)
        for scale, exponent in enumerate(exponents / exponents.sum()):
            full, contrast = brute_force_ssim(shown, wanted)
            product *= (full if scale == 2 else contrast) ** exponent
            shown, wanted = halve(shown), halve(wanted)
        assert ms_ssim_3(pixels, reference)[i].item() == pytest.approx(product.mean(), rel=1e-5)


def test_ms_ssim_3_is_the_librarys_where_that_goes() -> None:
    """Odd sides too, which are padded on the way down."""
    from pytorch_msssim import ms_ssim as librarys

    pixels, reference = noisy_pair(2, 177, 195)
    weights = [exponent / 0.6305 for exponent in (0.0448, 0.2856, 0.3001)]
    shown, wanted = ((x.double() + 1) * 127.5 for x in (pixels, reference))
    expected = librarys(shown, wanted, data_range=255, size_average=False, weights=weights)
    assert ms_ssim_3(pixels, reference).tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    clip = ms_ssim_3(pixels[:, :, None].repeat(1, 1, 2, 1, 1), reference[:, :, None].repeat(1, 1, 2, 1, 1))
    assert clip.tolist() == pytest.approx([x for x in expected.tolist() for _ in range(2)], rel=1e-9)
    with pytest.raises(ShapeError, match="MS-SSIM-3 needs pictures of at least 41 pixels"):
        ms_ssim_3(*noisy_pair(1, 40, 64))
    assert ms_ssim_3(*noisy_pair(1, 41, 64)).shape == (1,)


def brute_force_ssim(shown: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(plane: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(plane, (11, 11), axis=(0, 1))
        return np.einsum("hwcij,i,j->hwc", windows, taps, taps)

    mean_a, mean_b = blur(shown), blur(wanted)
    var_a, var_b = blur(shown**2) - mean_a**2, blur(wanted**2) - mean_b**2
    covariance = blur(shown * wanted) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = (2 * covariance + c2) / (var_a + var_b + c2)
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (light * contrast).mean((0, 1)), contrast.mean((0, 1))


def halve(picture: np.ndarray) -> np.ndarray:
    # like the library: odd sides are padded by a zero row or column in front, which counts in the mean
    height, width, _ = picture.shape
    picture = np.pad(picture, ((height % 2, 0), (width % 2, 0), (0, 0)))
    return picture.reshape(picture.shape[0] // 2, 2, picture.shape[1] // 2, 2, 3).mean((1, 3))


def test_decibels() -> None:
    assert decibels(0.9) == pytest.approx(10)
    assert decibels(1.0) == math.inf


def test_clips_count_as_frames() -> None:
    pixels, reference = noisy_pair(4)
    clip, clip_reference = (x.unflatten(0, (2, 2)).transpose(1, 2) for x in (pixels, reference))
    assert torch.equal(psnr(clip, clip_reference), psnr(pixels, reference))


def test_results_do_not_change_with_batches_and_order() -> None:
    pixels, reference = noisy_pair(6, 168, 176)
    whole, shuffled = ReconstructionMeter(), ReconstructionMeter()
    whole.add(pixels, reference)
    other_process = ReconstructionMeter()
    for i in (4, 1, 0):
        shuffled.add(pixels[i : i + 1], reference[i : i + 1])
    other_process.add(pixels[[5, 3, 2]], reference[[5, 3, 2]])
    shuffled.merge(other_process)
    a, b = whole.result(), shuffled.result()
    assert a.pictures == b.pictures == 6
    for name in ("psnr", "ssim", "ms_ssim", "ms_ssim_db"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9)
    assert a.lpips is None


def test_small_pictures_have_no_ms_ssim() -> None:
    meter = ReconstructionMeter()
    meter.add(*noisy_pair(1, 160, 168))
    assert meter.result().ms_ssim is None
    with pytest.raises(ShapeError, match="at least 161"):
        ms_ssim(*noisy_pair(1, 160, 168))
    with pytest.raises(ShapeError, match="at least 11"):
        ssim(*noisy_pair(1, 8, 16))


@pytest.mark.parametrize(
    ("pixels", "reference", "error", "words"),
    [
        (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 24), ShapeError, "differ in size"),
        (torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16), ShapeError, "empty"),
        (torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16), ShapeError, "expected pixels"),
        (torch.full((1, 3, 16, 16), math.nan), torch.zeros(1, 3, 16, 16), NumericsError, "NaN"),
        (torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), math.inf), NumericsError, "infinity"),
        (torch.full((1, 3, 16, 16), 200.0), torch.zeros(1, 3, 16, 16), NumericsError, r"\[-1, 1\]"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8),) * 2 + (ShapeError, "floating"),
    ],
)
def test_bad_input(pixels: torch.Tensor, reference: torch.Tensor, error: type[BsqError], words: str) -> None:
    for measure in (psnr, ssim):
        with pytest.raises(error, match=words):
            measure(pixels, reference)


def test_nothing_measured() -> None:
    with pytest.raises(DataError, match="no pictures"):
        ReconstructionMeter().result()


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    with pytest.raises(MissingDependencyError, match="bench"):
        ssim(*noisy_pair(1))
