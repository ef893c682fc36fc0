"""Videos on the command line, from the outside: files, parts, formats, bad files, memory."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import bsq
from bsq.cli.main import app
from bsq.cli.video import read_moment
from bsq.data.pictures import open_picture, save_picture
from bsq.errors import SettingsError

av = pytest.importorskip("av")

from bsq.data.video_files import write_video  # noqa: E402
from bsq.data.videos import open_video  # noqa: E402

Run = Callable[..., Any]


def frame(number: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Blue tells the number."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 9 % 256, columns * 7 % 256, np.full((height, width), 8 * number % 256)], -1).astype(
        np.uint8
    )


def clip(name: str = "clip.mp4", count: int = 10, rate: Fraction | int = 10, size: tuple[int, int] = (24, 32)) -> Path:
    with write_video(name, rate) as video:
        for number in range(count):
            video.write(frame(number, *size))
    return Path(name)


def sound(name: str, kind: str = "mp4") -> None:
    with av.open(name, "w", format=kind) as container:
        stream = container.add_stream("aac", rate=48000)
        for start in range(0, 9600, 960):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48000, start
            container.mux(stream.encode(silence))
        container.mux(stream.encode(None))


def growing(name: str) -> None:
    """A raw H.264 stream whose frames change their size."""
    data = b""
    for size in ((24, 32), (48, 64)):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for number in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(number, *size), format="rgb24")))
            container.mux(stream.encode(None))
        data += buffer.getvalue()
    Path(name).write_bytes(data)


@pytest.fixture
def run(here: Path, tiny_model: Path) -> Run:
    """`run("encode", "clip.mp4")` with the tiny model and no prior, in an empty folder."""

    def invoke(verb: str, *arguments: str, stdin: bytes | None = None) -> Any:
        prior = ["--prior", "raw"] if verb == "encode" else []
        return CliRunner().invoke(app, [verb, "--model", str(tiny_model), *prior, *arguments], input=stdin)

    return invoke


def names() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def facts(name: str = "clip.bsq") -> dict[str, Any]:
    return json.loads(CliRunner().invoke(app, ["info", "--json", name]).stdout)


def frames_of(name: str | Path) -> list[np.ndarray]:
    with open_video(name) as video:
        return [shown.pixels for shown in video]


def test_there_and_back(run: Run) -> None:
    rate = Fraction(30000, 1001)
    clip(rate=rate, count=25, size=(23, 31))
    done = run("encode", "clip.mp4", "--verify")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("clip.mp4 → clip.bsq: 31×23, 25 frames, 29.97 a second, 0.83 s, 12 bits a token, ")
    told = facts()
    assert (told["kind"], told["frames"], told["frame_rate"]) == ("video", 25, "30000/1001")
    assert (told["groups"], told["frames_per_group"]) == (2, 24)
    shown = CliRunner().invoke(app, ["info", "clip.bsq"]).stdout
    assert "31 × 23 pixels" in shown
    assert "25 frames, 29.97 a second (30000/1001), 0.83 s" in shown
    assert "2 of 24 frames" in shown
    for name in ("back.mp4", "back.webm"):
        assert run("decode", "clip.bsq", "-o", name).exit_code == 0
        with open_video(name) as video:
            assert (video.rate, video.width, video.height, len(list(video))) == (rate, 31, 23, 25)
    assert names() == ["back.mp4", "back.webm", "clip.bsq", "clip.mp4"]


def test_the_default_is_an_mp4_beside_it(run: Run) -> None:
    clip()
    assert run("encode", "clip.mp4", "--group", "4", "--bits", "5").exit_code == 0
    assert (facts()["groups"], facts()["kept_digits"]) == (3, 5)
    assert run("decode", "clip.bsq").exit_code == 5  # clip.mp4 is there
    Path("clip.mp4").rename("before.mp4")
    assert run("decode", "clip.bsq").exit_code == 0
    assert len(frames_of("clip.mp4")) == 10
    assert run("decode", "clip.bsq", "--format", "gif").exit_code == 0
    assert len(frames_of("clip.gif")) == 10


def test_parts_are_those_of_the_whole(run: Run) -> None:
    clip()
    assert run("encode", "clip.mp4", "--group", "4").exit_code == 0
    assert run("decode", "clip.bsq", "-o", "whole/").exit_code == 0
    whole = [path.read_bytes() for path in sorted(Path("whole").glob("*.png"))]
    assert len(whole) == 10
    for options, span in (
        (["--start", "0.5s"], slice(5, None)),
        (["--start", "0:00.3", "--end", "0.7"], slice(3, 7)),
        (["--start", "2f", "--end", "6f"], slice(2, 6)),
    ):
        done = run("decode", "clip.bsq", "-f", "-o", "part", *options)
        assert done.exit_code == 0, done.stderr
        assert [path.read_bytes() for path in sorted(Path("part").glob("*.png"))] == whole[span]
    done = run("decode", "clip.bsq", "-o", "no.mp4", "--start", "5s")
    assert done.exit_code == 2
    assert "there are no frames; the video has 10, 0 s to 1 s" in done.stderr
    assert not Path("no.mp4").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("10s", 10), ("1:02.5", Fraction(125, 2)), ("1:00:00", 3600), ("240f", 24)]
)
def test_moments(text: str, seconds: Fraction) -> None:
    moment = read_moment(text)
    assert moment is not None
    assert moment.at(Fraction(10)) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-1", "1:2:3:4", "1.5f", "5 s", "1e3"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(SettingsError, match="is no moment"):
        read_moment(text)


def test_pipes_gifs_and_python(run: Run, tiny_model: Path) -> None:
    clip("clip.gif")
    done = run("encode", "-", stdin=Path("clip.gif").read_bytes())
    assert done.exit_code == 0, done.stderr
    back = run("decode", "-", "--format", "webm", stdin=done.stdout_bytes)
    assert back.exit_code == 0, back.stderr
    Path("back.webm").write_bytes(back.stdout_bytes)
    assert len(frames_of("back.webm")) == 10
    pixels = bsq.decompress(done.stdout_bytes, tiny_model)
    assert pixels.shape == (10, 24, 32, 3)
    assert bsq.compress("clip.gif", tiny_model)[:4] == done.stdout_bytes[:4]
    assert names() == ["back.webm", "clip.gif"]


def test_folders_of_both(run: Run) -> None:
    Path("in").mkdir()
    clip("in/a.mp4")
    save_picture("in/b.png", frame(0))
    assert run("encode", "in", "-o", "small").exit_code == 0
    assert run("decode", "small", "-o", "out").exit_code == 0
    assert names() == ["in/a.mp4", "in/b.png", "out/a.mp4", "out/b.png", "small/a.bsq", "small/b.bsq"]


def test_rates_that_vary_keep_the_duration(run: Run) -> None:
    pictures = [Image.fromarray(frame(number)) for number in range(4)]
    pictures[0].save("clip.gif", save_all=True, append_images=pictures[1:], duration=[100, 100, 500, 100], loop=0)
    done = run("encode", "clip.gif", "--frame-rate", "10")
    assert done.exit_code == 0
    assert "was brought to a constant 10 frames a second: 4 shown longer, 0 left out" in done.stderr
    assert facts()["frames"] == 8
    assert run("encode", "-f", "clip.gif", "--frame-rate", "0").exit_code == 2


def test_what_is_left_out_is_said(run: Run) -> None:
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        audio = container.add_stream("aac", rate=48000)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p10le"
        for number in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(number), format="rgb24")))
        container.mux(stream.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 48000, 0
        container.mux(audio.encode(silence))
        container.mux(audio.encode(None))
    done = run("encode", "clip.mp4")
    assert done.exit_code == 0
    assert "note: clip.mp4 its sound is left out\n" in done.stderr
    assert "note: clip.mp4 has 10 bits a colour; they are scaled to 8\n" in done.stderr
    assert facts()["frames"] == 3


BAD: dict[str, tuple[Callable[[str], object], int, str]] = {
    "empty.mp4": (lambda name: Path(name).write_bytes(b""), 5, "is empty, 0 bytes"),
    "text.mp4": (lambda name: Path(name).write_text("no video" * 99), 5, "is not a video"),
    "cut.mp4": (lambda name: Path(name).write_bytes(clip("whole.mp4").read_bytes()[:-600]), 5, "mp4"),
    "sound.mp4": (sound, 5, "holds only sound"),
    "growing.h264": (growing, 5, "changes its size from 32×24 to 64×48"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_files_give_one_line_and_no_file(run: Run, name: str) -> None:
    make, code, message = BAD[name]
    make(name)
    before = names()
    if name.endswith("h264"):
        Path(name).rename("growing.mpg")
        name, before = "growing.mpg", ["growing.mpg"]
    done = run("encode", name, "-o", "out.bsq")
    assert done.exit_code == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert names() == before


def test_one_pixel_and_one_frame(run: Run) -> None:
    clip(count=1, size=(1, 1))
    assert run("encode", "clip.mp4").exit_code == 0
    assert (facts()["frames"], facts()["width"], facts()["height"]) == (1, 1, 1)
    assert run("decode", "clip.bsq", "-o", "back.mp4").exit_code == 0
    assert [shown.shape for shown in frames_of("back.mp4")] == [(1, 1, 3)]


def test_cut_files(run: Run) -> None:
    clip()
    assert run("encode", "clip.mp4", "--group", "4").exit_code == 0
    data = Path("clip.bsq").read_bytes()
    Path("cut.bsq").write_bytes(data[: len(data) * 2 // 3])
    done = run("decode", "cut.bsq")
    assert done.exit_code == 15
    assert names() == ["clip.bsq", "clip.mp4", "cut.bsq"]
    done = run("decode", "cut.bsq", "--allow-truncated")
    assert done.exit_code == 0
    assert "note: cut.bsq ends early" in done.stderr
    assert 4 <= len(frames_of("cut.mp4")) <= 8


def test_requests_that_cannot_be_met(run: Run) -> None:
    clip()
    save_picture("photo.png", frame(0))
    assert run("encode", "clip.mp4", "photo.png").exit_code == 0
    for arguments, code in (
        (["encode", "-f", "clip.mp4", "--target-bytes", "900"], 2),
        (["decode", "photo.bsq", "-f", "--start", "1s"], 2),
        (["decode", "clip.bsq", "-o", "clip.avi"], 5),
        (["decode", "clip.bsq", "--format", "jpg"], 5),
        (["decode", "photo.bsq", "--format", "mp4"], 5),
        (["decode", "clip.bsq", "--start", "soon"], 2),
        (["encode", "-f", "clip.mp4", "--max-pixels", "100"], 16),
    ):
        done = run(*arguments)
        assert done.exit_code == code, (arguments, done.stderr)
    assert open_picture("photo.png").shape == (24, 32, 3)
    Path("strange").mkdir()
    Path("strange/letter.txt").write_text("dear")
    assert "is a folder with files in it" in run("decode", "clip.bsq", "-o", "strange").stderr
    assert run("decode", "clip.bsq", "-f", "-o", "strange").exit_code == 5
    assert run("decode", "clip.bsq", "-o", "strange", "--format", "mp4").exit_code == 0
    assert Path("strange/clip.mp4").is_file()
    assert Path("strange/letter.txt").read_text() == "dear"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    clip()
    assert run("encode", "clip.mp4").exit_code == 0
    before, number = names(), getattr(signal, name)

    def lethal(*_: object) -> None:
        assert signal.getsignal(number) is not signal.SIG_DFL, "would end the tests as well"
        os.kill(os.getpid(), number)

    monkeypatch.setattr("bsq.cli.batch.Bar.frames", lethal)
    handler = signal.signal(number, signal.SIG_DFL)
    try:
        for arguments in (["encode", "clip.mp4", "-o", "new.bsq"], ["decode", "clip.bsq", "-o", "new.mp4"]):
            assert run(*arguments).exit_code == 128 + number
            assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, handler)
    assert names() == before


def test_an_interrupt_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clip()
    assert run("encode", "clip.mp4").exit_code == 0
    before = names()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bsq.cli.batch.Bar.frames", interrupted)
    for arguments in (["encode", "clip.mp4", "-o", "new.bsq"], ["decode", "clip.bsq", "-o", "new.mp4"]):
        assert run(*arguments).exit_code == 130
    assert run("decode", "clip.bsq", "-o", "new/").exit_code == 130
    assert names() == before
    assert not Path("new").exists()


def peak(*arguments: str) -> int:
    """Peak memory of a `bsq` process, kB on Linux."""
    code = "import resource, sys; from bsq.cli.main import app\ntry: app(sys.argv[1:])\n"
    code += "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(here: Path, tiny_model: Path) -> None:
    peaks = []
    for count in (100, 10_000):
        clip(f"{count}.mp4", count, 25, (48, 64))
        encoding = peak("encode", "--model", str(tiny_model), "--prior", "raw", f"{count}.mp4")
        decoding = peak("decode", "--model", str(tiny_model), f"{count}.bsq", "-o", f"{count}.webm")
        peaks.append((encoding, decoding))
    assert all(long <= 1.2 * short for short, long in zip(*peaks, strict=True)), peaks


def test_a_format_that_no_video_takes_is_refused_as_one_of_videos(run: Run) -> None:
    clip(count=2)
    run("encode", "clip.mp4")
    for name in ("clip.avi", "clip.tif"):
        done = run("decode", "clip.bsq", "-o", name)
        assert done.exit_code != 0
        assert f"cannot write videos as '{Path(name).suffix}'; known: mp4, webm, gif" in done.stderr
        assert not Path(name).exists()
