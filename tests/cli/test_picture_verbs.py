"""`bsq encode` and `bsq decode`, from the outside: files, pipes, folders, messages and exit codes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bsq
from bsq.cli.main import app
from bsq.codec.info import Limits
from bsq.data.pictures import open_picture, save_picture

Run = Callable[..., object]


def picture(height: int = 24, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def run(here: Path, tiny_model: Path) -> Run:
    """`run("encode", "a.png")` with the tiny model, in an empty folder."""

    def invoke(verb: str, *arguments: str, model: Path | None = tiny_model, stdin: bytes | None = None):
        chosen = [] if model is None else ["--model", str(model)]
        return CliRunner().invoke(app, [verb, *chosen, *arguments], input=stdin)

    return invoke


def names(folder: Path | str = ".") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_there_and_back_beside_the_input(run: Run, tiny_model: Path) -> None:
    save_picture("photo.png", picture())
    done = run("encode", "photo.png")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert done.stderr.startswith("photo.png → photo.bsq: 40×24, ")
    Path("photo.png").rename("original.png")
    assert run("decode", "photo.bsq").exit_code == 0
    assert np.array_equal(open_picture("photo.png"), bsq.decompress(Path("photo.bsq").read_bytes(), tiny_model))
    assert names() == ["original.png", "photo.bsq", "photo.png"]


def test_nothing_is_replaced_unless_forced(run: Run) -> None:
    save_picture("photo.png", picture())
    original = Path("photo.png").read_bytes()
    assert run("encode", "photo.png").exit_code == 0
    for verb, source, target in (("encode", "photo.png", "photo.bsq"), ("decode", "photo.bsq", "photo.png")):
        before = Path(target).read_bytes()
        done = run(verb, source)
        assert done.exit_code == 5
        assert done.stderr == f"error: {target} exists already; -f replaces it, -o names another\n"
        assert Path(target).read_bytes() == before
    assert run("decode", "-f", "photo.bsq").exit_code == 0
    assert Path("photo.png").read_bytes() != original
    assert run("encode", "-f", "photo.png", "-q").stderr == ""


@pytest.mark.parametrize("name", ["写真 ü.png", "emoji 🍪.png", "-dash.png", "a.b.c.png", "UPPER.PNG"])
def test_names_of_any_kind(run: Run, name: str) -> None:
    save_picture(name, picture())
    done = run("encode", "--", name)
    assert done.exit_code == 0, done.stderr
    assert Path(name).with_suffix(".bsq").is_file()
    assert run("decode", "-o", "back.png", "--", str(Path(name).with_suffix(".bsq"))).exit_code == 0


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp", "ppm", "jpg", "avif"])
def test_the_suffix_chooses_the_format(run: Run, suffix: str) -> None:
    save_picture("a.png", picture())
    run("encode", "a.png")
    assert run("decode", "a.bsq", "-o", f"new/b.{suffix}").exit_code == 0
    assert run("decode", "a.bsq", "-o", "folder/", "--format", suffix).exit_code == 0
    assert Path(f"folder/a.{suffix}").read_bytes() == Path(f"new/b.{suffix}").read_bytes()
    assert open_picture(f"new/b.{suffix}").shape == (24, 40, 3)


def test_an_unknown_suffix_is_said_plainly(run: Run) -> None:
    save_picture("a.png", picture())
    run("encode", "a.png")
    done = run("decode", "a.bsq", "-o", "a.docx")
    assert done.exit_code == 5
    assert "cannot write pictures as '.docx'; known: png" in done.stderr
    assert names() == ["a.bsq", "a.png"]


def test_an_unknown_suffix_is_said_before_the_work(run: Run) -> None:
    done = run("decode", "missing.bsq", "-o", "a", model=Path("nowhere"))
    assert done.exit_code == 5
    assert done.stderr.startswith("error: cannot write pictures as 'no suffix'; known: png")


def test_pipes_on_both_sides(run: Run, tiny_model: Path) -> None:
    save_picture("a.png", picture())
    encoded = run("encode", "-", stdin=Path("a.png").read_bytes())
    assert encoded.exit_code == 0
    run("encode", "a.png")
    assert encoded.stdout_bytes == Path("a.bsq").read_bytes()
    assert run("encode", "a.png", "-o", "-").stdout_bytes == encoded.stdout_bytes
    decoded = run("decode", "-", stdin=encoded.stdout_bytes)
    assert decoded.exit_code == 0
    assert np.array_equal(open_picture(decoded.stdout_bytes), bsq.decompress(encoded.stdout_bytes, tiny_model))
    assert run("decode", "-", "-o", "b.png", stdin=encoded.stdout_bytes).exit_code == 0
    assert np.array_equal(open_picture("b.png"), open_picture(decoded.stdout_bytes))


def test_what_was_allowed_in_may_be_verified(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers have limits of their own, which must not stop what --max-pixels let in."""
    save_picture("a.png", picture())
    for module in ("measure", "stream"):
        monkeypatch.setattr(f"bsq.codec.{module}.Limits", lambda: Limits(pixels=10))
    assert run("encode", "a.png", "-f", "--verify").exit_code == 0


def test_a_prior_of_other_weights_is_not_passed_over_in_silence(run: Run, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "model")
    bundled = Path(bsq.__file__).parent / "models" / "biscuit-s"
    for name in ("prior.json", "prior.safetensors"):
        shutil.copy(bundled / name, "model")
    save_picture("a.png", picture())
    done = run("encode", "a.png", model=Path("model"))
    assert done.exit_code == 0
    assert "trained on the codes of other weights" in done.stderr
    assert "other weights" not in run("encode", "a.png", "-f", "--prior", "adaptive", model=Path("model")).stderr
    assert "other weights" in run("encode", "a.png", "-f", "--prior", "learned", model=Path("model")).stderr


def test_bits_and_verify(run: Run) -> None:
    save_picture("a.png", picture(64, 64))
    sizes = []
    for bits in ("1", "6", "12"):
        assert run("encode", "a.png", "-f", "--bits", bits, "--verify").exit_code == 0
        sizes.append(Path("a.bsq").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_a_target_is_met_from_below(run: Run) -> None:
    save_picture("a.png", picture(64, 64))
    sizes = []
    for bits in range(1, 13):
        run("encode", "a.png", "-f", "--search", "0", "--no-colours", "--bits", str(bits))
        sizes.append(Path("a.bsq").stat().st_size)
    for target in ("--target-bpp=0.25", "--target-bytes=128"):
        done = run("encode", "a.png", "-f", "--search", "0", "--no-colours", "--verify", target)
        assert done.exit_code == 0
        assert Path("a.bsq").stat().st_size == max(size for size in sizes if size <= 128)
        assert f"{sizes.index(Path('a.bsq').stat().st_size) + 1} bits a token" in done.stderr
        assert run("encode", "a.png", "-f", "--verify", target).exit_code == 0
        assert sizes[0] <= Path("a.bsq").stat().st_size <= 128
    done = run("encode", "a.png", "-f", "--target-bytes", str(sizes[0] - 1))
    assert done.exit_code == 16
    assert done.stderr.startswith(f"error: a.png: cannot be coded in {sizes[0] - 1} bytes")
    assert f"takes {sizes[0]}" in done.stderr
    save_picture("b.png", picture(8, 8))  # of many, those that cannot be that small are named, the rest is done
    assert run("encode", "a.png", "b.png", "-o", "out/", "--target-bpp", "0.3").exit_code == 1
    assert names("out") == ["a.bsq"]


def test_what_is_left_of_a_stream(run: Run) -> None:
    save_picture("a.png", picture(64, 128))
    run("encode", "a.png", "--prior", "adaptive")
    data = Path("a.bsq").read_bytes()
    Path("whole.bsq").write_bytes(data)
    Path("part.bsq").write_bytes(data[:-2])
    Path("bad.bsq").write_bytes(damage(data, len(data) - 30))
    assert run("decode", "part.bsq").exit_code == 15
    assert run("decode", "bad.bsq").exit_code == 14
    done = run("decode", "--allow-truncated", "whole.bsq")
    assert done.exit_code == 0
    assert "note" not in done.stderr
    done = run("decode", "--allow-truncated", "part.bsq")
    assert done.exit_code == 0
    note = f"note: part.bsq ends early ({len(data) - 2} bytes are there): 100 % of the digits can be used"
    assert done.stderr.startswith(note)
    assert open_picture("part.png").shape == (64, 128, 3)
    for fill in ("prior", "zero"):
        done = run("decode", "--allow-truncated", "-f", "--fill", fill, "bad.bsq")
        assert done.exit_code == 0
        assert done.stderr.startswith(f"note: bad.bsq is damaged ({len(data)} bytes are there): ")
    assert run("decode", "--allow-truncated", "-f", "bad.bsq", "part.bsq", "whole.bsq").exit_code == 0
    Path("header.bsq").write_bytes(data[:20])
    assert run("decode", "--allow-truncated", "header.bsq").exit_code == 15


def test_folders_keep_their_shape(run: Run) -> None:
    for name in ("in/a.png", "in/deep/b.jpg", "in/deep/er/c.webp"):
        save_picture(name, picture())
    Path("in/notes.txt").write_text("no picture")
    done = run("encode", "in", "-o", "small")
    assert done.exit_code == 0, done.stderr
    assert names("small") == ["a.bsq", "deep/b.bsq", "deep/er/c.bsq"]
    assert "encoded 3 files" in done.stderr
    assert run("decode", "small", "-o", "back").exit_code == 0
    assert names("back") == ["a.png", "deep/b.png", "deep/er/c.png"]


def test_the_failures_of_some_do_not_stop_the_rest(run: Run) -> None:
    save_picture("in/a.png", picture())
    save_picture("in/d.png", picture())
    Path("in/b.png").write_bytes(Path("in/a.png").read_bytes()[:200])
    Path("in/c.png").write_bytes(b"")
    done = run("encode", "in", "missing.png", "-o", "out")
    assert done.exit_code == 1
    assert names("out") == ["a.bsq", "d.bsq"]
    lines = done.stderr.splitlines()
    assert lines[0].startswith("failed: in/b.png: the picture is damaged or truncated")
    assert lines[1] == "failed: in/c.png: the picture is empty, 0 bytes"
    assert lines[2] == "failed: cannot read missing.png: no such file"
    assert lines[3].startswith("encoded 2 files")
    assert lines[4] == "3 of 5 inputs failed, each named above with its reason"
    Path("out/a.bsq").write_bytes(Path("out/a.bsq").read_bytes()[:-3])
    done = run("decode", "out")
    assert done.exit_code == 1
    assert names("out") == ["a.bsq", "d.bsq", "d.png"]


@pytest.mark.parametrize("output", [[], ["-o", "out/"]])
def test_an_empty_folder_among_others_is_one_failure(run: Run, output: list[str]) -> None:
    Path("empty.d").mkdir()
    save_picture("a.png", picture())
    done = run("encode", "empty.d", "a.png", *output)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "failed: the folder empty.d holds no files of a known kind"
    assert lines[1].startswith("encoded 1 files")
    assert lines[2] == "1 of 2 inputs failed, each named above with its reason"
    made = "out/a.bsq" if output else "a.bsq"
    assert names() == sorted(["a.png", made])
    assert run("decode", "empty.d", made, "-o", "back/").exit_code == 1
    assert names("back") == ["a.png"]
    assert run("info", "empty.d", made, model=None).exit_code == 1


def damage(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda data: b"", 11, "is empty"),
        (lambda data: b"\xff\xd8\xff a jpeg, say", 10, "not a .bsq"),
        (lambda data: data[:8] + b"\x03" + data[9:], 12, "upgrade bsq"),
        (lambda data: damage(data, 12), 14, "checksum"),
        (lambda data: damage(data, len(data) // 2), 14, "checksum"),
        (lambda data: damage(data, len(data) - 1), 14, "digest"),
        (lambda data: data + b"more", 14, "follow the end"),
        (lambda data: data[:20], 15, "cut short"),
        (lambda data: data[:-1], 15, "cut short"),
    ],
)
def test_every_bad_stream_has_its_own_code(run: Run, change: Callable[[bytes], bytes], code: int, words: str) -> None:
    save_picture("a.png", picture())
    run("encode", "a.png")
    Path("bad.bsq").write_bytes(change(Path("a.bsq").read_bytes()))
    done = run("decode", "bad.bsq")
    assert done.exit_code == code
    assert words in done.stderr
    assert done.stderr.startswith("error: bad.bsq: ")
    assert len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr
    assert names() == ["a.bsq", "a.png", "bad.bsq"]


def test_a_way_to_fill_needs_something_to_fill(run: Run) -> None:
    done = run("decode", "a.bsq", "--fill", "zero")
    assert done.exit_code == 2
    assert "needs --allow-truncated" in done.stderr


def test_the_wrong_model(run: Run, other_model: Path) -> None:
    save_picture("a.png", picture())
    run("encode", "a.png")
    for model in (other_model, None):
        done = run("decode", "a.bsq", "-o", "b.png", model=model)
        assert done.exit_code == 13
        assert "was written by" in done.stderr
    assert run("decode", "a.bsq", "-o", "b.png", model=Path("missing")).exit_code == 6


TABLE = {"kind": "learned", "frames": 1, "rows": 2**20, "columns": 2**20}
CODEBOOK = {"kind": "vq", "size": 2**20, "width": 2**20}


@pytest.mark.parametrize(
    "claim",
    [
        {"encoder": {"width": 2**40}},
        {"encoder": {"depth": 2**40}},
        {"decoder": {"mlp_ratio": 2**40}},
        {"encoder": {"positions": TABLE}},
        {"quantizer": CODEBOOK},
        {"quantizer": {"kind": "kl", "width": 2**40}},
    ],
)
def test_a_configuration_that_claims_too_much_is_refused_at_once(run: Run, tiny_model: Path, claim: dict) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    for part, told in claim.items():
        config["settings"][part] = told if part == "quantizer" else config["settings"][part] | told
    Path("greedy").mkdir()
    Path("greedy/config.json").write_text(json.dumps(config))
    Path("greedy/model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    save_picture("a.png", picture())
    done = run("encode", "a.png", model=Path("greedy"))
    assert done.exit_code == 6
    assert "describe at least" in done.stderr


def test_limits(run: Run) -> None:
    save_picture("a.png", picture())
    done = run("encode", "a.png", "--max-pixels", "959")
    assert done.exit_code == 16
    assert "40×24 = 960 pixels, the limit is 959" in done.stderr
    assert run("encode", "a.png", "--max-pixels", "960").exit_code == 0
    assert run("decode", "a.bsq", "-o", "b.png", "--max-pixels", "959").exit_code == 16


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.png"], 5, "no such file"),
        (["text.png"], 5, "not a picture"),
        (["a.png", "--bits", "13"], 2, "bits must be 1 to 12"),
        (["a.png", "--device", "cuda:99"], 2, "no device 'cuda:99' here"),
        (["a.png", "--device", "toaster"], 2, "no device 'toaster' here"),
        (["a.png", "--device", "meta"], 2, "no device 'meta' here"),
        (["a.png", "-o", "x" * 300], 5, "the name is too long"),
        (["a.png", "-m", "x" * 300], 6, "no model"),
        (["a.png", "a.png", "text.png", "-o", "-"], 2, "a pipe takes one result"),
        (["a.png", "-o", "a.png", "-f"], 2, "written over itself"),
        (["a.png", "-o", "text.png/b.bsq"], 5, "a part of its path is a file"),
        (["a.png", "-o", "/dev/full"], 5, "the disk is full"),
        (["a.png", "--nonsense"], 2, "No such option"),
        (["a.png", "--target-bpp", "0"], 2, "must be a positive number"),
        (["a.png", "--target-bpp", "nan"], 2, "must be a positive number"),
        (["a.png", "--target-bytes", "0"], 2, "Invalid value"),
        (["a.png", "--target-bytes", "9", "--target-bpp", "1"], 2, "give one of them"),
        (["a.png", "--target-bytes", "9"], 16, "cannot be coded in 9 bytes"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_requests(run: Run, arguments: list[str], code: int, words: str) -> None:
    save_picture("a.png", picture())
    Path("text.png").write_text("hello")
    done = run("encode", *arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert names() == ["a.png", "text.png"]


@pytest.mark.parametrize(("number", "words"), [(28, "the disk is full"), (30, "no permission"), (13, "no permission")])
def test_a_disk_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    save_picture("a.png", picture())
    monkeypatch.setattr("os.fsync", refuse)
    done = run("encode", "a.png")
    assert done.exit_code == 5
    assert done.stderr == f"error: cannot write a.bsq: {words}\n"
    assert names() == ["a.png"]


def test_an_interrupt_leaves_whole_files_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupt_the_second(file: int) -> None:
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt

    for name in "abc":
        save_picture(f"{name}.png", picture())
    monkeypatch.setattr("os.fsync", interrupt_the_second)
    done = run("encode", "a.png", "b.png", "c.png")
    assert done.exit_code == 130
    assert done.stderr == "interrupted\n"
    assert names() == ["a.bsq", "a.png", "b.png", "c.png"]


def test_a_bug_is_called_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("bsq.codec.picture.compress", broken)
    save_picture("a.png", picture())
    done = run("encode", "a.png")
    assert done.exit_code == 70
    assert done.stderr == "error: a bug in bsq: ZeroDivisionError: oh; `bsq --debug …` shows where\n"
    loud = CliRunner().invoke(app, ["--debug", "encode", "a.png", "-m", str(tiny_model)])
    assert loud.exit_code == 70
    assert "Traceback" in loud.stderr


def test_notes_of_a_picture_are_passed_on(run: Run) -> None:
    from PIL import Image

    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save("a.tif", save_all=True, append_images=frames[1:])
    assert "note: a.tif has 2 frames; only the first is used\n" in run("encode", "a.tif").stderr


def test_allocation_makes_no_larger_file(run: Run) -> None:
    save_picture("a.png", picture(64, 64))
    run("encode", "a.png", "--bits", "6")
    alike = Path("a.bsq").stat().st_size
    done = run("encode", "a.png", "-f", "--verify", "--bits", "6", "--allocate")
    assert done.exit_code == 0
    assert Path("a.bsq").stat().st_size <= alike
    assert run("decode", "a.bsq", "-o", "b.png").exit_code == 0
    done = run("encode", "a.png", "-f", "--allocate")
    assert done.exit_code == 2
    assert "how large the file may be" in done.stderr


def test_colours_are_set_right_unless_told_otherwise(run: Run) -> None:
    save_picture("a.png", np.full((40, 40, 3), (200, 30, 90), np.uint8))
    assert run("encode", "a.png", "--verify").exit_code == 0
    assert "\n  colours  set right by the map " in run("info", "a.bsq", model=None).stdout
    run("decode", "a.bsq", "-o", "right.png")
    assert np.abs(open_picture("right.png").astype(int).mean((0, 1)) - (200, 30, 90)).max() <= 1
    assert run("encode", "a.png", "-f", "--no-colours").exit_code == 0
    assert "colours" not in run("info", "a.bsq", model=None).stdout
    run("decode", "a.bsq", "-o", "left.png")
    assert np.abs(open_picture("left.png").astype(int).mean((0, 1)) - (200, 30, 90)).max() > 4


def test_what_larger_parts_lack_is_told(run: Run) -> None:
    colours = np.array([[[255, 0, 0], [0, 0, 255], [0, 255, 0]], [[0, 255, 0], [255, 255, 0], [255, 0, 0]]], np.uint8)
    save_picture("a.png", colours.repeat(48, 0).repeat(48, 1))
    assert run("encode", "a.png", "--verify").exit_code == 0
    told = run("info", "a.bsq", model=None).stdout
    assert "bytes of what larger parts lack" in told
    facts = json.loads(run("info", "--json", "a.bsq", model=None).stdout)
    assert 0 < facts["residual_bytes"] < facts["extra_bytes"]
    parts = "header", "payload", "framing", "extra", "closing"
    assert sum(facts[f"{part}_bytes"] for part in parts) == facts["bytes"]
    Path("b.bsq").write_bytes(Path("a.bsq").read_bytes()[:-12])
    done = run("decode", "b.bsq", "--allow-truncated")
    assert "what larger parts lack is lost" in done.stderr


def test_search_writes_a_file_like_any_other(run: Run) -> None:
    save_picture("a.png", picture(64, 64))
    done = run("encode", "a.png", "--verify", "--bits", "6", "--search", "2")
    assert "6 bits a token after 2 steps of search, " in done.stderr
    assert done.exit_code == 0
    assert run("decode", "a.bsq", "-o", "b.png").exit_code == 0
    done = run("encode", "a.png", "-f", "--bits", "6", "--search", "2", "--allocate")
    assert done.exit_code == 0
    assert run("decode", "a.bsq", "-o", "c.png").exit_code == 0
