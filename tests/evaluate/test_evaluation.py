"""Whole evaluations of small models: numbers by hand, and the same ones whatever the order and number of processes."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ended_work import Ended
from PIL import Image

from bsq.codec.picture import compress, decompress
from bsq.data.pictures import open_picture, to_pixels, to_uint8
from bsq.data.stored import Kind
from bsq.errors import CheckpointError, DataError, EvaluationError, NumericsError, SettingsError
from bsq.evaluate import share as shares
from bsq.evaluate.lines import BITS, Form
from bsq.evaluate.processes import measure
from bsq.evaluate.protocols import PROTOCOLS, Protocol, chosen_protocol
from bsq.evaluate.report import as_json, markdown, write
from bsq.evaluate.run import Evaluation, evaluate, evenly
from bsq.evaluate.settings import EvaluationSettings
from bsq.evaluate.systems.base import Reconstructed
from bsq.evaluate.tables import CHART, CONTACT_SHEET, report_of
from bsq.frozen import load_lpips
from bsq.metrics import psnr, ssim
from bsq.tokenizer import Tokenizer


def settings(data: Path, *systems: str, **changes: Any) -> EvaluationSettings:
    usual = {"lpips": "none", "features": "none", "rounds": 0}
    return EvaluationSettings.model_validate({"systems": systems, "data": (str(data),), **usual, **changes})


def numbers(evaluation: Evaluation) -> list[list[float]]:
    """All scores of all systems; NaN for those that are missing."""
    found = []
    for one in evaluation.systems:
        scores, quality = one.scores, one.scores.quality
        found.append([quality.psnr, quality.ssim, quality.lpips, scores.bits_per_pixel, scores.frechet])
        found[-1].append(None if scores.code_use is None else scores.code_use.marginal_entropy_bits)
    return [[math.nan if value is None else value for value in row] for row in found]


def test_numbers_are_those_of_each_picture_alone(photos: Path, tiny_model: Path, tiny_tokenizer: Tokenizer) -> None:
    found = evaluate(settings(photos, f"{tiny_model}@6", "webp@q50", lpips="squeeze"))
    pictures = [to_pixels(open_picture(path)) for path in sorted(photos.iterdir())]
    again = [tiny_tokenizer.reconstruct(pixels, 6) for pixels in pictures]
    ours = found.systems[0].scores
    pairs = list(zip(again, pictures, strict=True))
    assert ours.quality.psnr == pytest.approx(sum(float(psnr(a, b)) for a, b in pairs) / 5, rel=1e-12)
    assert ours.quality.ssim == pytest.approx(sum(float(ssim(a, b)) for a, b in pairs) / 5, rel=1e-12)
    distance = load_lpips("squeeze").distance
    assert ours.quality.lpips == pytest.approx(sum(float(distance(a, b)) for a, b in pairs) / 5, rel=1e-6)
    rates = [6 * math.prod(tiny_tokenizer.grid(*p.shape[-2:])) / (p.shape[-2] * p.shape[-1]) for p in pictures]
    assert ours.bits_per_pixel == pytest.approx(sum(rates) / 5, rel=1e-12)
    assert ours.code_use is not None
    assert ours.code_use.tokens == sum(math.prod(tiny_tokenizer.grid(*p.shape[-2:])) for p in pictures)
    assert found.systems[1].scores.code_use is None


def test_results_do_not_depend_on_order_or_processes(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Fréchet distance, LPIPS and all."""
    systems = (f"{tiny_model}@6", "jpeg@q30")
    one = evaluate(settings(photos, *systems, lpips="squeeze", features="squeeze"))
    two = evaluate(settings(photos, *systems, lpips="squeeze", features="squeeze", processes=2))
    turned = tmp_path / "turned"
    turned.mkdir()
    for number, path in enumerate(sorted(photos.iterdir(), reverse=True)):
        (turned / f"{number}.png").write_bytes(path.read_bytes())
    other = evaluate(settings(turned, *systems, lpips="squeeze", features="squeeze"))
    for found in (two, other):
        for mine, theirs in zip(numbers(one), numbers(found), strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9, nan_ok=True)
    assert numbers(one)[0][4] > 0
    assert {n: p.tobytes() for n, p in two.shown.items()} == {n: p.tobytes() for n, p in one.shown.items()}


def test_what_is_measured_is_what_is_decoded(photos: Path, tiny_model: Path, tiny_tokenizer: Tokenizer) -> None:
    found = evaluate(settings(photos, str(tiny_model), f"{tiny_model}+prior", protocol=PROTOCOLS["kodak"]))
    raw, coded = (one.scores for one in found.systems)
    assert coded.bits_per_pixel != raw.bits_per_pixel
    pictures = [to_pixels(open_picture(path)) for path in sorted(photos.iterdir())]
    rounded = [to_pixels(to_uint8(tiny_tokenizer.reconstruct(pixels))) for pixels in pictures]
    files = [compress(to_uint8(pixels), tiny_tokenizer) for pixels in pictures]
    decoded = [to_pixels(decompress(data, tiny_tokenizer)) for data in files]
    for scores, again in ((raw, rounded), (coded, decoded)):
        expected = sum(float(psnr(a, b)) for a, b in zip(again, pictures, strict=True)) / 5
        assert scores.quality.psnr == pytest.approx(expected, rel=1e-12)
    assert coded.quality.psnr > raw.quality.psnr  # their colours are set right


def test_a_codec_held_to_another_systems_bits(photos: Path) -> None:
    found = evaluate(settings(photos, "webp@as:mine", "mine=jpeg@q50", "avif@0.9bpp"))
    webp, jpeg, avif = (one.scores.bits_per_pixel for one in found.systems)
    assert 0.8 * jpeg < webp <= jpeg
    assert avif <= 0.9
    with pytest.raises(SettingsError, match="held to 'theirs', which is none of mine"):
        evaluate(settings(photos, "webp@as:theirs", "mine=jpeg@q50"))
    with pytest.raises(SettingsError, match="held to 'theirs', which is not there"):
        evaluate(settings(photos, "webp@as:theirs"))


def test_clips(films: Path, tiny_model: Path) -> None:
    protocol = Protocol(frames=3, crop=48)
    systems = ("x264@as:whole", f"whole={tiny_model}", f"{tiny_model}+frames", "x264@crf30")
    asked = settings(films, *systems, kind=Kind.VIDEOS, protocol=protocol, features="squeeze")
    found = evaluate(asked)
    held, whole, alone, free = (one.scores for one in found.systems)
    assert found.samples == 3
    assert whole.quality.pictures == 9
    assert whole.bits_per_pixel == alone.bits_per_pixel == 12 / 64
    assert held.bits_per_pixel <= whole.bits_per_pixel
    assert free.frechet is not None
    assert whole.ms_ssim_3 is not None
    shown = report_of(found, Form.VIDEO)
    assert "the middle 3 frames at the video's own rate" in markdown(shown)
    assert "| MS-SSIM-3 |" in markdown(shown)


def test_one_bad_picture_among_many(photos: Path, tiny_model: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(photos / "small.png")
    found = evaluate(settings(photos, str(tiny_model), protocol=Protocol(crop=32)))
    assert found.samples == 5
    assert [one.name for one in found.refused] == ["broken.png", "small.png"]
    assert found.refused[1].reason == (
        "small.png is 20×20, smaller than the crop of 32; a protocol with a resize enlarges it"
    )


def test_bad_requests(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        evaluate(settings(alone, str(tiny_model)))
    (alone / "one.png").write_bytes((photos / "p0.png").read_bytes())
    with pytest.raises(DataError, match="at least 2 pictures or clips, got 1"):
        evaluate(settings(alone, str(tiny_model), features="squeeze"))
    (alone / "two.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="at least 2 pictures or clips, got 1"):
        evaluate(settings(alone, str(tiny_model), features="squeeze"))
    (alone / "one.png").unlink()
    with pytest.raises(DataError, match=r"none of 1 samples can be measured; the first: two\.png is not a picture"):
        evaluate(settings(alone, str(tiny_model)))
    for changes, words in (
        ({"lpips": "best"}, "no LPIPS 'best'"),
        ({"features": "best"}, "no feature network 'best'; there are none, squeeze"),
        ({"device": "abacus"}, "no device 'abacus'"),
    ):
        with pytest.raises(SettingsError, match=words):
            evaluate(settings(photos, str(tiny_model), **changes))
    with pytest.raises(CheckpointError, match="alexnet"):
        evaluate(settings(photos, str(tiny_model), lpips="alex"))
    with pytest.raises(SettingsError, match="two systems are called 'webp@q50'"):
        evaluate(settings(photos, "webp@q50", "webp@q50"))
    twins = [shutil.copytree(tiny_model, tmp_path / run / "model") for run in ("a", "b")]
    with pytest.raises(SettingsError, match=r"two systems are called 'model'; name one of them, as in again=.*a/model"):
        evaluate(settings(photos, *map(str, twins)))


class Broken:
    """A system that gives what no system may give."""

    name, description, currency, parameters, notes = "bad", "broken", "code bits", None, ()

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def reconstruct(self, pixels: torch.Tensor) -> Reconstructed:
        return Reconstructed(self.pixels, (1.0,))

    def reconstruct_together(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pixels


def test_a_system_that_gives_no_numbers() -> None:
    pixels = torch.zeros(1, 3, 1, 16, 16)
    with pytest.raises(NumericsError, match=r"bad gives NaN or infinity for p0\.png"):
        shares.reconstruct_all([Broken(pixels * math.nan)], pixels, "p0.png")
    with pytest.raises(NumericsError, match=r"another size for p0\.png"):
        shares.reconstruct_all([Broken(pixels[..., :8])], pixels, "p0.png")


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("killed", EvaluationError, r"process 2 of 2 failed: it was ended from outside \(exit code -9\)"),
        ("refused", DataError, "the disk is gone"),
        ("buggy", EvaluationError, "process 2 of 2 failed: ValueError: a bug"),
    ],
)
def test_a_process_that_fails_is_told(how: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        measure(Ended(how), 2, 4, lambda done, total: None)


def test_shares_are_added_up() -> None:
    done: list[tuple[int, int]] = []
    assert measure(Ended("well"), 3, 4, lambda *told: done.append(told)).number == 33
    assert sorted(done) == [(1, 4), (2, 4), (3, 4)]


@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("3", 3)])
def test_processes_multiply_on_one_thread_each(
    given: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of OpenBLAS with two threads each can wait for each other for minutes on two cores."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
    assert measure(Ended("threads"), 2, 2, lambda done, total: None).number == 2 * threads
    assert os.environ.get("OPENBLAS_NUM_THREADS") == given


def test_speed_is_measured_by_turns(photos: Path, tiny_model: Path) -> None:
    square = Protocol(crop=40)
    systems = (str(tiny_model), "jpeg@0.8bpp", "webp@as:jpeg@0.8bpp")
    found = evaluate(settings(photos, *systems, rounds=2, timed=2, batch=2, protocol=square))
    for one in found.systems:
        assert one.speed is not None
        assert (one.speed.rounds, one.speed.batch) == (2, 2)
        assert one.speed.frames_per_second > 0
    assert [one.speed.samples for one in found.systems if one.speed] == [4] * 3
    with pytest.raises(DataError, match="a batch of 9 cannot be timed: 5 samples are of one size"):
        evaluate(settings(photos, "jpeg@q30", rounds=1, batch=9, protocol=square))


def test_batches_change_no_number_of_quality(photos: Path, tiny_model: Path) -> None:
    square = Protocol(crop=40)
    one = evaluate(settings(photos, str(tiny_model), protocol=square, rounds=1))
    four = evaluate(settings(photos, str(tiny_model), protocol=square, rounds=1, batch=4))
    assert np.array_equal(numbers(one), numbers(four), equal_nan=True)


def test_reports(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    asked = settings(photos, f"tiny={tiny_model}@6", "jpeg@0.01bpp", features="squeeze", rounds=1, timed=1)
    found = evaluate(asked.model_copy(update={"protocol": chosen_protocol("coco-256", ["short_side=64", "crop=64"])}))
    report = report_of(found, Form.RECONSTRUCTION)
    text = markdown(report)
    assert "| M params | bits / 8×8 | bpp | img/s | PSNR dB | SSIM | Fréchet (squeeze) | codes used % |" in text
    for words in (
        "5 samples instead of the 5,000 of COCO val2017",
        "short side 64 by Pillow's lanczos, the central 64×64, reconstructions not rounded",
        "not comparable: SqueezeNet features",
        "above the 0.0100 it is held to",
        "Left out: broken.png",
        "the value is biased upward",
    ):
        assert words in text, words
    written = {path.name for path in write(report, tmp_path / "out")}
    assert written == {"table.md", "result.json", CONTACT_SHEET, CHART}
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["settings"]["protocol"]["resize"] == "lanczos"
    assert {"date", "commit", "machine", "processor", "versions"} <= set(told)
    assert f"Measured on {told['date'][:10]}" in text
    assert told["systems"][0]["scores"]["quality"]["pictures"] == 5
    assert str(tmp_path) not in json.dumps(told), "folders of this machine are nobody's business"
    assert as_json(report)["lines"][0]["origin"] == "measured"
    with Image.open(tmp_path / "out" / CONTACT_SHEET) as sheet:
        assert sheet.width > 3 * 256
    assert report_of(found, Form.COMPRESSION).pictures[CHART] != report.pictures[CHART]


def test_reports_name_no_folders(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    found = evaluate(settings(photos, f"{tiny_model}@6", f"webp@as:{tiny_model}@6"))
    report = report_of(found, Form.RECONSTRUCTION, ())
    told = markdown(report) + json.dumps(as_json(report))
    assert [line.system for line in report.lines] == ["tiny@6", "webp@as:tiny@6"]
    assert str(tiny_model.parent) not in told
    assert str(photos.parent) not in told
    assert "held to" in told


def test_random_weights_are_for_speed_alone(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bsq.evaluate.systems import autoencoders

    small = autoencoders.SD_VAE | {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}
    monkeypatch.setattr(autoencoders, "SD_VAE", small)
    systems = ("diffusers:random-sd-vae", "webp@q5")
    found = evaluate(settings(photos, *systems, rounds=1, timed=1, protocol=Protocol(crop=32)))
    assert found.systems[0].scores is None
    line, _ = report_of(found, Form.RECONSTRUCTION).lines
    assert line.value(BITS) == 64
    assert line.system == "diffusers:random-sd-vae (random weights: for speed only)"
    assert {score.measure.name for score in line.scores} == {"M params", "bits / 8×8", "bpp", "img/s"}
    with pytest.raises(SettingsError, match="for speed alone; ask for --rounds"):
        evaluate(settings(photos, *systems))


def test_numbers_spread_evenly() -> None:
    assert evenly(10, 3) == (1, 5, 8)
    assert evenly(2, 5) == (0, 1)
    assert evenly(7, 0) == ()


def test_nothing_is_said_before_anything_was_done() -> None:
    """The hub's package prints what it could not import at first, if it is asked for the wrong thing first."""
    done = subprocess.run([sys.executable, "-c", "import bsq.evaluate.run"], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
