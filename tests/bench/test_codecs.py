import builtins
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from bsq.bench import report as reports
from bsq.bench.classical import (
    AvifSettings,
    Jpeg2000Settings,
    JpegSettings,
    JpegXlSettings,
    WebpSettings,
    classical_codec,
)
from bsq.bench.codecs import CodecBenchSettings, FixedRates, MatchedRates, run
from bsq.bench.compare import Comparison, compare
from bsq.bench.elementary import avif_stream, jpeg_stream, jpeg_xl_stream, webp_stream
from bsq.bench.ours import OursCodec, OursSettings
from bsq.bench.sweep import Point, Search
from bsq.data.pictures import to_pixels
from bsq.errors import DataError, MediaError, MissingDependencyError, SettingsError
from bsq.metrics import decibels, ms_ssim, psnr
from bsq.tokenizer import Tokenizer

CODECS = [JpegSettings(), Jpeg2000Settings(), WebpSettings(), AvifSettings(speed=10)]
RATES = (0.3, 0.5, 0.8, 1.2)


def settings(folder: Path, **changed: Any) -> CodecBenchSettings:
    values = {"codecs": (JpegSettings(), WebpSettings()), "ours": (), "perceptual": "none"}
    return CodecBenchSettings(folder=folder, **(values | {"rates": FixedRates(bits_per_pixel=RATES)} | changed))


@pytest.mark.parametrize("codec_settings", CODECS, ids=lambda s: s.kind)
def test_classical_codecs(codec_settings: Any, folder: Path) -> None:
    codec = classical_codec(codec_settings)
    picture = np.asarray(Image.open(folder / "p0.png"))
    qualities = codec.qualities()
    assert list(qualities) == sorted(qualities)
    small, large = (codec.encode(picture, qualities[len(qualities) * part // 10]) for part in (3, 8))
    assert len(small) < len(large)
    errors = [float(np.square(codec.decode(data).astype(float) - picture).mean()) for data in (small, large)]
    assert errors[0] > errors[1]
    assert codec.decode(small).shape == picture.shape


def test_files_hold_nothing_but_the_picture(folder: Path) -> None:
    picture = np.asarray(Image.open(folder / "p0.png"))
    for codec_settings in CODECS:
        codec = classical_codec(codec_settings)
        data = codec.encode(picture, codec.qualities()[30])
        assert not any(mark in data for mark in (b"Exif", b"ICC_PROFILE", b"http://ns.adobe.com"))
    assert classical_codec(Jpeg2000Settings()).encode(picture, 1.0)[:4] == b"\xff\x4f\xff\x51"  # a bare codestream
    assert abs(len(classical_codec(Jpeg2000Settings()).encode(picture, 1.0)) * 8 / picture[..., 0].size - 1) < 0.02


def test_rivals_are_charged_for_their_coded_data_alone(folder: Path) -> None:
    """What is left out does not depend on the picture, and what is kept decodes within fresh wrapping."""
    picture, other = (np.asarray(Image.open(folder / name)) for name in ("p0.png", "p1.png"))
    overheads = {}
    for codec_settings in CODECS:
        codec = classical_codec(codec_settings)
        files = [codec.encode(one, codec.qualities()[len(codec.qualities()) // 3]) for one in (picture, other)]
        found = [len(data) - codec.charged(data) for data in files]
        assert max(found) - min(found) <= 1  # WebP pads
        overheads[codec.name] = min(found)
    assert overheads["jpeg"] == 18  # JFIF
    assert overheads["jpeg2000"] == 0
    assert 20 <= overheads["webp"] <= 21  # RIFF and chunk header, padding
    assert 200 < overheads["avif"] < 400
    jpeg = classical_codec(JpegSettings())
    data = jpeg.encode(picture, 50)
    assert np.array_equal(jpeg.decode(jpeg_stream(data)), jpeg.decode(data))
    webp = classical_codec(WebpSettings())
    data = webp.encode(picture, 50)
    stream = webp_stream(data)
    body = b"WEBPVP8 " + len(stream).to_bytes(4, "little") + stream + b"\0" * (len(stream) % 2)
    again = b"RIFF" + len(body).to_bytes(4, "little") + body
    assert np.array_equal(webp.decode(again), webp.decode(data))
    avif = classical_codec(AvifSettings(speed=10))
    data = avif.encode(picture, 50)
    assert data.endswith(avif_stream(data))


@pytest.mark.parametrize("stream", [jpeg_stream, webp_stream, avif_stream, jpeg_xl_stream])
def test_streams_of_other_bytes_are_refused(stream: Any, folder: Path) -> None:
    for data in (b"", b"GIF89a", b"\xff\xd8", b"RIFF\x04\0\0\0WEBP", b"\0\0\0\x0cftypavif", b"\0\0\xff\0meta"):
        with pytest.raises(MediaError):
            stream(data)


def test_threads_are_lent_to_the_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    codec = classical_codec(AvifSettings(speed=10), threads=3)
    data = codec.encode(np.asarray(Image.open(folder / "p0.png")), 30)
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *a: seen.append(AvifImagePlugin.DEFAULT_MAX_THREADS) or real(*a))
    codec.decode(data)
    assert (seen, AvifImagePlugin.DEFAULT_MAX_THREADS) == ([3], 0)


def test_codec_settings_count(folder: Path) -> None:
    picture = np.asarray(Image.open(folder / "p0.png"))
    pairs: list[tuple[Any, Any, float]] = [
        (JpegSettings(), JpegSettings(subsampling="4:4:4"), 50),
        (Jpeg2000Settings(), Jpeg2000Settings(wavelet="5-3"), 1.0),
        (Jpeg2000Settings(), Jpeg2000Settings(colour="rgb"), 1.0),
        (WebpSettings(), WebpSettings(method=0), 50),
        (AvifSettings(speed=10), AvifSettings(speed=8), 50),
        (AvifSettings(speed=10), AvifSettings(speed=10, subsampling="4:4:4"), 50),
    ]
    for one, other, quality in pairs:
        assert classical_codec(one).encode(picture, quality) != classical_codec(other).encode(picture, quality)


def test_jpeg_xl_names_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pillow_jxl":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match="pillow-jxl-plugin"):
        classical_codec(JpegXlSettings())


@pytest.mark.parametrize("budget", [0, 99, 100, 101, 4000, 10**6, 10**7, 10**9])
def test_search_finds_the_largest_file_within(budget: int) -> None:
    qualities = [0.5 * i for i in range(200)]
    sizes = {quality: int(100 * 1.07 ** (2 * quality)) for quality in qualities}
    written: list[float] = []

    def write(quality: float) -> int:
        written.append(quality)
        return sizes[quality]

    found = Search(qualities, write).largest_within(budget)
    assert found == max((q for q in qualities if sizes[q] <= budget), default=qualities[0])
    assert len(written) == len(set(written)) <= 10


def test_search_ends_when_sizes_do_not_grow() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        sizes = random.integers(1, 100, 30)
        search = Search(range(30), lambda quality, sizes=sizes: int(sizes[int(quality)]))
        for budget in (0, 10, 50, 99):
            found = int(search.largest_within(budget))
            assert sizes[found] <= budget or found == 0


def test_results_are_those_of_the_files(folder: Path) -> None:
    report = run(settings(folder))
    assert {file.picture for file in report.files} == {"p0", "p1"}
    assert len(report.points) == 8
    for point in report.points:
        files = [f for f in report.files if (f.codec, f.target) == (point.codec, point.target)]
        assert point.psnr == pytest.approx(math.fsum(f.psnr for f in files) / 2, rel=1e-12)
        assert point.ms_ssim_db == pytest.approx(decibels(sum(f.ms_ssim or 0 for f in files) / 2))
        assert point.bits_per_pixel <= RATES[point.target]
        assert point.bits_per_pixel > 0.8 * RATES[point.target]
    assert [showcase.original.name for showcase in report.shown] == ["p0", "p1"]
    showcase = report.shown[0]
    original = to_pixels(showcase.original.pixels)
    assert [written.result.codec for written in showcase.written] == ["jpeg", "webp"]
    for written in showcase.written:
        shown = to_pixels(written.pixels)
        assert (written.result.picture, written.result.target) == ("p0", 1)
        assert written.result.psnr == psnr(shown, original).item()
        assert written.result.ms_ssim == ms_ssim(shown, original).item()
        assert written.result.bits_per_pixel == 8 * written.result.bytes / (176 * 200)


def test_ours_beside_the_others_at_matched_rates(folder: Path, tiny_tokenizer: Tokenizer) -> None:
    raw_files = OursSettings(bits=(3, 12), prior="raw")
    asked = settings(folder, ours=(OursSettings(bits=(3, 12)), raw_files), rates=MatchedRates())
    steps: list[tuple[int, int]] = []
    report = run(asked, tiny_tokenizer, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    assert list(report.labels) == ["bsq", "bsq-raw", "jpeg", "webp"]
    for point in (p for p in report.points if p.codec != "bsq-raw"):
        ours = next(p for p in report.points if p.codec == "bsq" and p.target == point.target)
        assert point.budget_bits_per_pixel == pytest.approx(ours.bits_per_pixel)
    raw = [3 / 64, 12 / 64]
    for point in (p for p in report.points if p.codec.startswith("bsq")):
        assert 0 < point.bits_per_pixel < raw[point.target] + 0.1
        assert (point.over_budget, point.file_bits_per_pixel) == (0, point.bits_per_pixel)
    for file in (f for f in report.files if f.codec == "bsq-raw"):
        assert raw[file.target] < file.bits_per_pixel < raw[file.target] + 0.1
        assert file.quality == (3, 12)[file.target]
        twin = next(f for f in report.files if (f.codec, f.target, f.picture) == ("bsq", file.target, file.picture))
        assert twin.psnr == pytest.approx(file.psnr, abs=0.5)  # a residual must pay in each file
    # files with another prior keep their own sizes, so they stand in no row of equal bytes
    assert "| PSNR dB at ≤ bpp | bsq, adaptive prior | JPEG | WebP |" in reports.summary(report)
    assert "fewer than 4 points" in reports.summary(report)


def test_fixed_rates_hold_ours_too(folder: Path, tiny_tokenizer: Tokenizer) -> None:
    rates = FixedRates(bits_per_pixel=(0.1, 0.15))
    asked = settings(folder, codecs=(JpegSettings(),), ours=(OursSettings(prior="raw", bits="all"),), rates=rates)
    report = run(asked, tiny_tokenizer)
    for point in (p for p in report.points if p.codec == "bsq-raw"):
        assert rates.bits_per_pixel[point.target] - 1 / 64 < point.bits_per_pixel <= rates.bits_per_pixel[point.target]


def test_our_bits(tiny_tokenizer: Tokenizer) -> None:
    assert list(OursCodec(OursSettings(), tiny_tokenizer).qualities()) == [1, 3, 4, 6, 7, 9, 10, 12]
    assert list(OursCodec(OursSettings(bits="all"), tiny_tokenizer).qualities()) == list(range(1, 13))
    assert list(OursCodec(OursSettings(bits=(12, 3, 3)), tiny_tokenizer).qualities()) == [3, 12]
    with pytest.raises(SettingsError, match="no prior was trained"):
        OursCodec(OursSettings(prior="learned"), tiny_tokenizer)
    with pytest.raises(SettingsError, match="up to 12"):
        OursCodec(OursSettings(bits=(13,)), tiny_tokenizer)


def test_models_are_found_by_name(folder: Path, tiny_model: Path) -> None:
    report = run(
        settings(folder, codecs=(), ours=(OursSettings(model=str(tiny_model), bits=(12,)),), shown=("p1.png",))
    )
    assert list(report.labels) == ["bsq"]
    (showcase,) = report.shown
    assert showcase.original.name == "p1"
    assert showcase.original.pixels.shape == (168, 192, 3)


def test_jpeg_xl(folder: Path) -> None:
    pytest.importorskip("pillow_jxl")
    picture = np.asarray(Image.open(folder / "p0.png"))
    codec, quick = classical_codec(JpegXlSettings()), classical_codec(JpegXlSettings(effort=1))
    assert psnr(*(to_pixels(x) for x in (codec.decode(codec.encode(picture, 80)), picture))).item() > 30
    assert codec.encode(picture, 50) != quick.encode(picture, 50)
    assert codec.encode(picture, codec.qualities()[-1])


def test_all_files_of_a_report(folder: Path, tmp_path: Path) -> None:
    report = run(settings(folder, perceptual="lpips-squeeze"))
    paths = reports.write(report, tmp_path / "out")
    assert {path.name for path in paths} == {
        *("report.json", "report.md", "jpeg.json", "webp.json", "files.csv", "rd.png", "side_by_side.webp")
    }
    compressai = json.loads((tmp_path / "out" / "webp.json").read_text())
    assert compressai["name"] == "webp"
    for key in ("bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time"):
        assert len(compressai["results"][key]) == len(RATES)
    whole = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (whole["pictures"], len(whole["points"]), whole["anchor"]) == (2, 2 * len(RATES), "jpeg")
    assert "codestreams" in whole["protocol"][0]
    assert {"torch", "pillow"} <= set(whole["versions"])
    lines = (tmp_path / "out" / "files.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * len(RATES)
    assert lines[0].startswith("picture,codec,target,")
    assert whole["settings"]["folder"] == "pictures"
    assert not [path for path in paths if path.suffix == ".json" and str(tmp_path) in path.read_text()]
    found = {one.measure: one for one in compare(report)}
    assert set(found) == {"PSNR dB", "MS-SSIM dB", "LPIPS"}
    saving = found["PSNR dB"]
    assert saving.codec == "webp"
    assert saving.rate_percent is not None
    assert saving.rate_percent < 0
    assert saving.quality is not None
    assert saving.quality > 0
    assert 0 < saving.common_share <= 1
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"{saving.rate_percent:+.1f} %" in text
    assert "1 thread;" in text
    with Image.open(tmp_path / "out" / "side_by_side.webp") as sheet:
        assert sheet.size == (3 * (256 + 6) + 6, 2 * (256 + 46 + 6 + 6))


def crafted(rates: dict[str, list[float]], qualities: dict[str, list[float]]) -> dict[str, Comparison]:
    """What is found of two codecs with these curves of PSNR."""
    points = tuple(
        Point(codec, i, rate, 1, 0, rate, rate, quality, None, None, None, 0.0, 0.0, 0.0, 0.0)
        for codec in rates
        for i, (rate, quality) in enumerate(zip(rates[codec], qualities[codec], strict=True))
    )
    report = reports.CodecReport(
        settings=CodecBenchSettings(folder=Path("x")),
        anchor="one",
        labels={codec: codec for codec in rates},
        descriptions=dict.fromkeys(rates, ""),
        points=points,
        files=(),
        shown=(),
        skipped=(),
    )
    return {one.codec: one for one in compare(report)}


def test_curves_that_do_not_compare_say_why() -> None:
    rates = {codec: [0.1, 0.2, 0.3, 0.4] for codec in ("one", "twice", "above", "wavy", "short")}
    rates |= {"twice": [0.2, 0.4, 0.6, 0.8], "short": [0.1, 0.1, 0.3, 0.4]}
    base = [30.0, 32.0, 33.0, 34.0]
    qualities = {"one": base, "twice": base, "above": [40.0, 41, 42, 43], "wavy": [30.0, 32, 31, 34], "short": base}
    found = crafted(rates, qualities)
    assert found["twice"].rate_percent == pytest.approx(100)
    assert (found["twice"].common_share, found["twice"].reason) == (1, "")
    assert (found["above"].rate_percent, found["above"].reason) == (None, "no overlap")
    assert found["above"].quality is not None  # at equal rates the two still compare
    assert (found["wavy"].rate_percent, found["wavy"].reason) == (None, "quality does not grow with rate")
    assert (found["short"].quality, found["short"].reason) == (None, "fewer than 4 points")


def test_rates_below_the_smallest_file_are_marked(folder: Path) -> None:
    report = run(settings(folder, rates=FixedRates(bits_per_pixel=(0.001,))))
    assert all(point.over_budget == 2 for point in report.points)
    assert "*" in reports.markdown(report)


def test_bad_requests(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        run(settings(tmp_path / "empty"))
    with pytest.raises(DataError, match="no folder"):
        run(settings(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="one or more codecs"):
        run(settings(folder, codecs=()))
    with pytest.raises(SettingsError, match="each once"):
        run(settings(folder, codecs=(JpegSettings(), JpegSettings(subsampling="4:4:4"))))
    with pytest.raises(SettingsError, match="our own files"):
        run(settings(folder, rates=MatchedRates()))
    with pytest.raises(SettingsError, match="no picture kodim99; there are p0, p1"):
        run(settings(folder, shown=("kodim99",)))
    with pytest.raises(SettingsError, match="anchor 'avif' is none"):
        run(settings(folder, anchor="avif"))
    with pytest.raises(DataError, match="no pictures"):
        Point.of([])


def test_any_folder(tmp_path: Path) -> None:
    """Small, grey, transparent and 16-bit pictures are measured; what cannot be read is named and counted."""
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "small.png")
    Image.new("RGB", (9, 5), "teal").save(tmp_path / "tiny.png")
    Image.new("L", (40, 30), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (40, 30), (9, 99, 199, 128)).save(tmp_path / "grey.webp")
    Image.fromarray(np.full((30, 40), 40000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("no picture at all")
    asked = settings(tmp_path, rates=FixedRates(bits_per_pixel=(2.0,)), perceptual="lpips-squeeze")
    report = run(asked)
    assert {file.picture for file in report.files} == {"small", "tiny", "grey.png", "grey.webp", "deep"}
    assert [(one.picture, "not a picture" in one.reason) for one in report.skipped] == [("broken", True)]
    assert all(file.ms_ssim is None for file in report.files)
    assert {file.picture for file in report.files if file.lpips is None} == {"tiny"}
    text = reports.markdown(report)
    assert "MS-SSIM needs sides of 161 pixels: left blank, 5 pictures are smaller" in text
    assert "LPIPS needs sides of 17 pixels" in text
    assert "1 pictures could not be measured: broken" in text
    paths = reports.write(report, tmp_path / "out")
    assert "NaN" not in (tmp_path / "out" / "report.json").read_text()
    assert "Infinity" not in (tmp_path / "out" / "report.json").read_text()
    assert len(paths) == 7


def test_a_folder_in_which_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="none of 1 pictures"):
        run(settings(tmp_path))
