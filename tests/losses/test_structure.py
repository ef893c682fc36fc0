"""MS-SSIM to train by: the library's number, and gradients where the library has none."""

import pytest
import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from bsq.errors import SettingsError
from bsq.losses.reconstruction import ReconstructionSettings, reconstruction_loss
from bsq.losses.structure import TRAINING_MIN_SIDE, TRAINING_WINDOW, structural_distance
from bsq.train.recipe import load_recipe


def noisy_pair(batch: int = 2, frames: int = 1, side: int = 104) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    small = torch.rand(batch, 3, frames, 8, 8, generator=draw) * 2 - 1
    wanted = torch.nn.functional.interpolate(small, (frames, side, side), mode="trilinear")
    return (wanted + 0.3 * torch.randn(wanted.shape, generator=draw)).clamp(-1, 1), wanted


def test_it_is_the_librarys_number_with_a_smaller_window() -> None:
    shown, wanted = noisy_pair()
    expected = ms_ssim((shown[:, :, 0] + 1) / 2, (wanted[:, :, 0] + 1) / 2, data_range=1.0, win_size=TRAINING_WINDOW)
    assert structural_distance(shown, wanted).item() == pytest.approx(1 - expected.item(), rel=1e-5)
    assert structural_distance(wanted, wanted).item() == pytest.approx(0, abs=1e-6)


def test_a_clip_is_the_mean_of_its_frames() -> None:
    shown, wanted = noisy_pair(frames=3)
    apart = [structural_distance(shown[:, :, t : t + 1], wanted[:, :, t : t + 1]).item() for t in range(3)]
    assert structural_distance(shown, wanted).item() == pytest.approx(sum(apart) / 3, rel=1e-5)


def test_the_gradient_is_finite_where_pictures_are_opposite() -> None:
    _, wanted = noisy_pair()
    shown = (-wanted).requires_grad_()
    structural_distance(shown, wanted).backward()
    assert shown.grad is not None
    assert shown.grad.isfinite().all()


def test_a_step_against_the_gradient_brings_pictures_closer() -> None:
    shown, wanted = noisy_pair()
    shown.requires_grad_()
    distance = structural_distance(shown, wanted)
    distance.backward()
    assert shown.grad is not None
    moved = shown.detach() - 0.1 * shown.grad / shown.grad.abs().max()
    assert structural_distance(moved, wanted) < distance


def test_autocast_does_not_reach_it() -> None:
    shown, wanted = noisy_pair()
    with torch.autocast("cpu", torch.bfloat16):
        low = structural_distance(shown, wanted)
    assert low.dtype == torch.float32
    assert low == structural_distance(shown, wanted)


def test_it_is_a_term_of_the_reconstruction_loss() -> None:
    shown, wanted = noisy_pair()
    terms = reconstruction_loss(shown, wanted, ReconstructionSettings(l1=0, ms_ssim=0.5))
    assert float(terms.distances["ms_ssim"]) == structural_distance(shown, wanted).item()
    assert float(terms.loss) == pytest.approx(0.5 * float(terms.distances["ms_ssim"]))


def test_crops_that_are_too_small_are_named() -> None:
    structural_distance(*noisy_pair(1, 1, TRAINING_MIN_SIDE))
    with pytest.raises(SettingsError, match=f"data.crop of at least {TRAINING_MIN_SIDE}"):
        load_recipe("recipes/biscuit-s.yaml", ["data.source=[a]", "data.crop=96", "loss.reconstruction.ms_ssim=1"])
