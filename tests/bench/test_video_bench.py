"""`bsq bench video` and `bsq bench ablation` on small clips, from inside and outside."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from bsq.bench.ours import shown_name
from bsq.bench.video import ablation, compare, report, rivals, vmaf
from bsq.bench.video.ablation import AblationSettings
from bsq.bench.video.clips import find_clips, read_clip
from bsq.bench.video.compare import VideoBenchSettings
from bsq.bench.video.judge import Judge
from bsq.cli.bench_video import show_table
from bsq.cli.main import app
from bsq.data.video_files import write_video
from bsq.errors import DataError, MissingDependencyError, SettingsError
from bsq.metrics import ms_ssim_3, psnr
from bsq.tokenizer import Tokenizer, TokenizerSettings

RIVALS = ({"kind": "x264", "preset": "fast"}, {"kind": "av1", "preset": 12})


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of 6 and 4 frames, 96 by 112, 8 a second."""
    folder = tmp_path / "clips"
    rows, columns = np.mgrid[:96, :112]
    for number, count in enumerate((6, 4)):
        with write_video(folder / f"clip{number}.mp4", 8) as video:
            for t in range(count):
                planes = (rows * 2, (columns + 4 * t) * 2, 128 + 90 * np.sin((rows - 2 * t) / (9 + number)))
                video.write(np.stack(planes, -1).clip(0, 255).astype(np.uint8))
    return folder


def settings(folder: Path, **changed: Any) -> VideoBenchSettings:
    values: dict[str, Any] = {"source": (str(folder),), "codecs": RIVALS, "perceptual": "none", "vmaf": "none"}
    values["ours"] = ({"bits": (2, 4, 8, 12), "prior": "adaptive"},)
    return VideoBenchSettings.model_validate(values | changed)


def test_no_stream_is_above_ours(clips: Path, tiny_tokenizer: Tokenizer) -> None:
    told: list[tuple[int, int]] = []
    found = compare.run(settings(clips), tiny_tokenizer, lambda *count: told.append(count))
    assert told == [(1, 2), (2, 2)]
    assert len(found.streams) == 2 * 4 * 3
    ours = {(one.clip, one.target): one for one in found.streams if one.codec == "bsq"}
    for one in found.streams:
        assert one.budget_bytes == ours[one.clip, one.target].bytes
        assert one.over_budget == (one.bytes > one.budget_bytes)
        assert len(one.per_frame.psnr) == one.frames
        assert one.psnr == pytest.approx(sum(one.per_frame.psnr) / one.frames)
    assert not [one for one in found.streams if one.over_budget and one.target == 3]
    for codec in ("x264", "av1"):  # the next better quality is above
        rival = rivals.rival_codec(
            {"x264": rivals.X264Settings(preset="fast"), "av1": rivals.SvtAv1Settings(preset=12)}[codec]
        )
        best = next(one for one in found.streams if (one.codec, one.clip, one.target) == (codec, "clip0", 3))
        clip = read_clip("clip0", find_clips((str(clips),), None)["clip0"], None)
        assert rival.encode(clip, best.quality).size == best.bytes
        better = [quality for quality in rival.qualities() if quality > best.quality]
        assert not better or rival.encode(clip, better[0]).size > best.budget_bytes
    assert {point.clips for point in found.points} == {2}


def test_scores_are_those_of_the_measures(clips: Path) -> None:
    clip = read_clip("clip0", find_clips((str(clips),), None)["clip0"], 3)
    assert clip.frames.shape == (3, 96, 112, 3)
    shown = clip.frames // 2 + 30
    scores = Judge(None, None).scores(shown, clip)
    pair = [
        torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1 for frames in (shown, clip.frames)
    ]
    assert scores.psnr == pytest.approx(psnr(*pair).tolist())
    assert scores.ms_ssim_3 == pytest.approx(ms_ssim_3(*pair).tolist())
    assert scores.ms_ssim is None
    assert scores.vmaf is None


def test_report(clips: Path, tmp_path: Path, tiny_model: Path, other_model: Path) -> None:
    out = tmp_path / "out"
    command = ["bench", "video", str(clips), "-o", str(out), "-m", f"{tiny_model}:first"]
    command += ["--also", f"{other_model}:next", "--frames", "2", "-c", "x264", "-c", "vp9", "--show", "clip1"]
    command += ["-b2", "-b3", "-b6", "-b9"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert "| codec | rate | bpp |" in done.stdout
    assert "Bjøntegaard" in done.stdout or "beside first" in done.stdout  # noise need not grow better with bits
    found = json.loads((out / "report.json").read_text())
    assert [codec["label"] for codec in found["codecs"].values()] == ["first", "next", "H.264 (x264)", "VP9 (libvpx)"]
    assert len(found["points"]) == 16
    assert len(found["streams"]) == 32
    assert found["settings"]["source"] == ["clips"]
    assert str(tmp_path) not in (out / "report.json").read_text() + (out / "report.md").read_text()
    assert {one["codec"] for one in found["bjontegaard"]} == {"bsq-1", "x264", "vp9"}
    with Image.open(out / "film_strip.png") as strip, Image.open(out / "rd.png") as plot:
        assert strip.width > strip.height / 3
        assert plot.width > 900
    assert sorted(path.name for path in out.iterdir()) == ["film_strip.png", "rd.png", "report.json", "report.md"]


def test_a_broken_clip_among_others(clips: Path, tmp_path: Path, tiny_model: Path) -> None:
    (clips / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    chosen = ["-m", str(tiny_model), "-c", "x264", "-b", "6", "--frames", "2"]
    done = CliRunner().invoke(app, ["bench", "video", str(clips), "-o", str(out), *chosen])
    assert done.exit_code == 1
    assert "broken: " in done.stderr
    assert "1 clips could not be measured" in done.stderr
    assert json.loads((out / "report.json").read_text())["skipped"][0]["clip"] == "broken"
    assert "The film strip" not in done.stdout
    done = CliRunner().invoke(app, ["bench", "video", str(clips), "-o", str(out), *chosen, "--show", "broken"])
    assert "The film strip shows clip0, since broken could not be measured." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere/"], 7, "no file or folder nowhere/"),
        (["pipe:cat a.tar"], 7, "can only be read in order"),
        (["CLIPS", "-b", "13"], 2, "bits go up to 12"),
        (["CLIPS", "--show", "absent"], 2, "no clip absent; there are clip0, clip1"),
        (["CLIPS", "--also", "MODEL"], 2, "have the same label"),
        (["CLIPS", "-m", "no-such-model"], 6, "no model"),
    ],
)
def test_bad_requests(
    clips: Path, tmp_path: Path, tiny_model: Path, arguments: list[str], code: int, words: str
) -> None:
    named = {"CLIPS": str(clips), "MODEL": str(tiny_model)}
    command = ["bench", "video", "-o", str(tmp_path / "out"), "-m", str(tiny_model)]
    done = CliRunner().invoke(app, [*command, *(named.get(word, word) for word in arguments)])
    assert done.exit_code == code, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_video_at_all(clips: Path, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no videos"):
        compare.run(settings(tmp_path / "empty"), tiny_tokenizer)
    for path in clips.iterdir():
        path.write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(DataError, match="none of 2 clips can be measured; the first: "):
        compare.run(settings(clips), tiny_tokenizer)
    with pytest.raises(SettingsError, match="each codec once"):
        compare.run(settings(clips, codecs=(RIVALS[0], RIVALS[0])), tiny_tokenizer)


def test_a_missing_encoder_is_left_out(clips: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compare.rival_codec

    def without_av1(one: Any, threads: int) -> Any:
        if one.kind == "av1":
            raise MissingDependencyError("AV1 (SVT-AV1) is left out: this build of PyAV has no libsvtav1")
        return real(one, threads)

    monkeypatch.setattr(compare, "rival_codec", without_av1)
    found = compare.run(settings(clips, clips=1, frames=2), tiny_tokenizer)
    assert list(found.labels) == ["bsq", "x264"]
    assert "AV1 (SVT-AV1) is left out" in report.markdown(found)
    assert "Rates: those of bsq biscuit-s at 2, 4, 8, 12 bits a code." in report.markdown(found)
    ruled = io.StringIO()
    Console(file=ruled, width=120).print(report.terminal_table(found))
    shown = ruled.getvalue()
    assert all(words in shown for words in ("H.264 (x264)", "bytes a clip", "MS-SSIM-3"))
    assert "VMAF" not in shown  # nothing was measured
    assert "…" not in shown


def test_an_interrupt_leaves_nothing(
    clips: Path, tmp_path: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare.run(settings(clips, clips=1, frames=2), tiny_tokenizer)

    def interrupted(_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "film_strip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(found, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_vmaf_through_a_program(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ffmpeg that gives 100 less the difference of the two files' first bytes."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import json, sys\n"
        "if '-filters' in sys.argv: print(' .. libvmaf  VV->V  measures')\n"
        "elif '-version' in sys.argv: print('ffmpeg version 1.2 of nobody')\n"
        "else:\n"
        "    width, height = map(int, sys.argv[sys.argv.index('-s') + 1].split('x'))\n"
        "    shown, wanted = (open(name, 'rb').read() for name in ('shown.yuv', 'wanted.yuv'))\n"
        "    size = 3 * width * height\n"
        "    assert len(shown) == len(wanted) and len(shown) % size == 0\n"
        "    scores = [100 - abs(shown[i] - wanted[i]) for i in range(0, len(shown), size)]\n"
        "    json.dump({'frames': [{'metrics': {'vmaf': s}} for s in scores]}, open('vmaf.json', 'w'))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    vmaf.find_vmaf.cache_clear()
    try:
        measure = vmaf.find_vmaf()
        assert measure is not None
        assert measure.version == "ffmpeg version 1.2"
        clip = read_clip("clip0", find_clips((str(clips),), None)["clip0"], 3)
        assert measure.scores(clip.frames, clip) == (100.0, 100.0, 100.0)
        assert max(measure.scores(255 - clip.frames, clip)) < 99
    finally:
        vmaf.find_vmaf.cache_clear()


# The table of what models see


def tokenizer(bits: int = 8, **side: Any) -> Tokenizer:
    torch.manual_seed(0)
    sides = {"width": 32, "depth": 1, "head_width": 16, **side}
    made = {"patch": 8, "quantizer": {"kind": "bsq", "bits": bits}, "encoder": sides, "decoder": sides}
    return Tokenizer(TokenizerSettings.model_validate(made)).eval()


def test_ablation(clips: Path, tmp_path: Path) -> None:
    table = {"kind": "learned", "rows": 6, "columns": 6, "frames": 2}
    models = {"frame": {"window_frames": 1}, "full": {"time": "full", "positions": table}, "causal": {}}
    for name, side in models.items():
        tokenizer(**side).save_pretrained(tmp_path / name)
    out = tmp_path / "out"
    chosen = [word for name in models for word in ("-m", str(tmp_path / name))]
    command = ["bench", "ablation", str(clips), *chosen, "-o", str(out), "--frames", "4", "--crop", "48"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert "| model | sees | frames together |" in done.stdout
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    assert [row["sees"] for row in rows] == ["frame only", "full attention", "block-causal"]
    assert [row["frames_together"] for row in rows] == [1, 2, 4]
    assert {row["bits_per_token"] for row in rows} == {8.0}
    assert {row["scores"]["pictures"] for row in rows} == {8}
    assert str(tmp_path) not in (out / "ablation.md").read_text() + (out / "ablation.json").read_text()


def test_ablation_is_what_the_model_keeps(clips: Path, tmp_path: Path) -> None:
    model = tokenizer()
    model.save_pretrained(tmp_path / "model")
    told = AblationSettings(
        source=(str(clips),), models=(str(tmp_path / "model"),), frames=4, crop=48, clips=1, perceptual="none", bits=3
    )
    row = ablation.run(told).rows[0]
    clip = ablation.central_clip(
        (clips / "clip0.mp4").read_bytes(),
        ablation.ClipSettings(source="x", frames=4, frame_rate=8.0),
        ablation.CropSettings(crop=48),
    )
    pixels = clip[None].float() / 127.5 - 1
    again = model.decode(model.encode(pixels, 3), (48, 48))
    assert row.scores.psnr == pytest.approx(float(psnr(again, pixels).mean()))
    assert row.ms_ssim_3 == pytest.approx(float(ms_ssim_3(again, pixels).mean()))
    assert row.bits_per_token == 3
    ruled = io.StringIO()
    Console(file=ruled, width=120).print(ablation.terminal_table(ablation.AblationReport(told, 1, (row,), ())))
    assert f"{row.scores.psnr:.2f}" in ruled.getvalue()


def test_ablation_wants_equal_bits(clips: Path, tmp_path: Path) -> None:
    names = []
    for bits in (6, 8):
        tokenizer(bits).save_pretrained(tmp_path / str(bits))
        names.append(str(tmp_path / str(bits)))
    told = AblationSettings(source=(str(clips),), models=tuple(names), frames=2, crop=48, perceptual="none")
    with pytest.raises(SettingsError, match=r"different bits on a token \(6 6, 8 8\)"):
        ablation.run(told)
    assert len(ablation.run(told.model_copy(update={"bits": 6})).rows) == 2
    with pytest.raises(SettingsError, match="have 6 digits, fewer than 7"):
        ablation.run(told.model_copy(update={"bits": 7}))
    tokenizer(8).save_pretrained(tmp_path / "other" / "8")
    with pytest.raises(SettingsError, match=r"same name \(8, 8\)"):
        ablation.run(told.model_copy(update={"models": (names[1], str(tmp_path / "other" / "8"))}))
    with pytest.raises(DataError, match=r"none of 2 clips can be measured; the first: .* too short"):
        ablation.run(told.model_copy(update={"bits": 6, "frames": 60}))


def test_what_models_are_called(tmp_path: Path) -> None:
    """A run's folder "model" by the run's name, so that two runs are told apart."""
    (tmp_path / "first" / "model").mkdir(parents=True)
    assert shown_name(str(tmp_path / "first" / "model")) == "first"
    assert shown_name(str(tmp_path / "first")) == "first"
    assert shown_name("biscuit-s") == "biscuit-s"


def test_no_figure_is_cut_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    narrow = Console(file=shown, width=20, force_terminal=True)
    monkeypatch.setattr("rich.console.Console", lambda: narrow)
    ruled = Table("codec", "PSNR dB")
    ruled.add_row("H.264 (x264)", "37.31")
    show_table(ruled, "plain")
    assert "H.264 (x264)" in shown.getvalue()
    assert "37.31" in shown.getvalue()
