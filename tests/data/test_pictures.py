"""Every kind of picture file becomes uint8 RGB, as people expect it; everything else is an error in plain words."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from bsq.data.files import Existing, write_file
from bsq.data.pictures import encode_picture, open_picture, read_picture, save_picture, to_pixels, to_uint8
from bsq.errors import LimitError, MediaError, NumericsError, ShapeError


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_plain_rgb_is_unchanged(colours: np.ndarray, kind: str) -> None:
    assert np.array_equal(open_picture(file_of(Image.fromarray(colours), kind)), colours)


def test_paths_files_and_bytes_are_the_same(colours: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "naïve 写真.png"
    path.write_bytes(file_of(Image.fromarray(colours)))
    with path.open("rb") as file:
        assert np.array_equal(open_picture(file), open_picture(path))
    assert np.array_equal(open_picture(path.read_bytes()), open_picture(str(path)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int, kind: str) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = (255, 0, 0)
    upright[16:, 32:] = (0, 0, 255)
    to_stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    stored = stored if to_stored is None else stored.transpose(Image.Transpose(to_stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = open_picture(file_of(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored(colours: np.ndarray) -> None:
    data = file_of(Image.fromarray(colours), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(open_picture(data), colours)


def test_grey_palette_and_bilevel() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(open_picture(file_of(Image.fromarray(grey))), np.repeat(grey[..., None], 3, 2))
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert open_picture(file_of(palette)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    bilevel = Image.new("1", (2, 1))
    bilevel.putpixel((1, 0), 1)
    assert open_picture(file_of(bilevel)).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_transparency_is_laid_over_white() -> None:
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (200, 0, 100, alpha))
    clear, half, full = open_picture(file_of(image))[0].tolist()
    assert clear == [255, 255, 255]
    assert half == [227, 127, 177]
    assert full == [200, 0, 100]
    grey = Image.new("LA", (1, 1), (10, 0))
    assert open_picture(file_of(grey)).tolist() == [[[255, 255, 255]]]


def test_transparent_palette_colour_is_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert open_picture(file_of(palette, transparency=0)).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    assert open_picture(file_of(palette, transparency=bytes([0, 255]))).tolist()[0][0] == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], np.uint16)
    seen = open_picture(file_of(Image.fromarray(values), kind))
    assert seen[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]
    assert (seen == seen[..., :1]).all()


def test_sixteen_bit_colour_is_scaled_not_clipped() -> None:
    values = np.array([[[0, 32768, 65535]]], ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def part(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = part(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    assert open_picture(data).tolist() == [[[0, 128, 255]]]


def test_floating_point_grey() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert open_picture(file_of(Image.fromarray(unit), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(MediaError, match=r"the picture holds floating-point values outside 0 … 1"):
        open_picture(file_of(Image.fromarray(unit * 300), "TIFF"))


def test_cmyk_and_lab() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = open_picture(file_of(cmyk, "TIFF"))[0, 0]
    assert red[0] > 200
    assert red[1] < 60
    assert red[2] < 60
    lab = Image.new("LAB", (2, 2), (255, 128, 128))
    assert (open_picture(file_of(lab, "TIFF")) >= 250).all()


def test_colour_profile_becomes_srgb(colours: np.ndarray) -> None:
    plain = Image.fromarray(colours)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(open_picture(file_of(plain, icc_profile=srgb)), colours)
    tagged = srgb.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    swapped = tagged.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)
    seen = open_picture(file_of(plain, icc_profile=swapped)).astype(int)
    assert np.abs(seen - colours[..., [1, 0, 2]]).max() <= 2


def test_colour_profile_reaches_transparent_and_grey_pictures(colours: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = srgb.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    swapped = tagged.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)
    clear = Image.fromarray(colours).convert("RGBA")
    clear.putalpha(0)
    clear.putpixel((0, 0), (10, 200, 30, 255))
    seen = open_picture(file_of(clear, icc_profile=swapped))
    assert np.abs(seen[0, 0].astype(int) - [200, 10, 30]).max() <= 2
    assert (seen[1:] == 255).all()
    grey = read_picture(file_of(Image.new("L", (2, 2), 77), icc_profile=swapped))
    assert (grey.pixels == 77).all()


def test_broken_colour_profile_is_noted(colours: np.ndarray) -> None:
    picture = read_picture(file_of(Image.fromarray(colours), icc_profile=b"no profile at all"))
    assert np.array_equal(picture.pixels, colours)
    assert "colour profile" in picture.notes[0]


def test_animation_gives_its_first_frame_and_a_note() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "green", "blue")]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture = read_picture(data)
    assert (picture.pixels == (255, 0, 0)).all()
    assert picture.notes == ("has 3 frames; only the first is used",)
    with pytest.warns(UserWarning, match="only the first"):
        open_picture(data)


def test_one_pixel() -> None:
    assert open_picture(file_of(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_limit() -> None:
    data = file_of(Image.new("1", (100, 50)))
    assert open_picture(data, limit=5000).shape == (50, 100, 3)
    with pytest.raises(LimitError, match=r"100×50 = 5,000 pixels, the limit is 4,999.*--max-pixels"):
        open_picture(data, limit=4999)


def test_own_limit_may_exceed_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_picture(file_of(Image.new("1", (50, 50)))).shape == (50, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_every_truncation_is_a_media_error_or_a_picture(colours: np.ndarray, kind: str) -> None:
    data = file_of(Image.fromarray(colours), kind)
    for end in range(1, len(data), 7):
        try:
            picture = open_picture(data[:end])
        except MediaError as error:
            assert str(error).startswith("the picture is ")  # noqa: PT017
        else:
            assert picture.shape == colours.shape
    with pytest.raises(MediaError):
        open_picture(data[: len(data) // 2])


def test_what_is_no_picture(tmp_path: Path) -> None:
    cases = {b"": "is empty", b"hello, world": "is not a picture", bytes(1000): "is not a picture"}
    for data, words in cases.items():
        with pytest.raises(MediaError, match=words):
            open_picture(data)
    with pytest.raises(MediaError, match="no such file"):
        open_picture(tmp_path / "missing.png")
    with pytest.raises(MediaError, match="it is a folder"):
        open_picture(tmp_path)


def test_pixels_round_trip_exactly() -> None:
    ramp = np.arange(256 * 3, dtype=np.int64).reshape(16, 16, 3).astype(np.uint8)
    pixels = to_pixels(ramp)
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.dtype == torch.float32
    assert pixels.min() == -1
    assert pixels.max() == 1
    assert np.array_equal(to_uint8(pixels), ramp)
    assert np.array_equal(to_uint8(pixels[:, :, None]), ramp)


def test_pixels_are_rounded_and_clamped() -> None:
    pixels = torch.tensor([-9.0, -1.0, 0.4999 / 127.5 - 1, 0.5001 / 127.5 - 1, 1.0, 9.0]).expand(1, 3, 1, 6)
    assert to_uint8(pixels)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"uint8 \(H, W, 3\), got float64"):
        to_pixels(np.zeros((2, 2, 3)))
    with pytest.raises(ShapeError):
        to_pixels(np.zeros((0, 2, 3), np.uint8))
    with pytest.raises(ShapeError, match=r"got \(2, 3, 4, 4\)"):
        to_uint8(torch.zeros(2, 3, 4, 4))
    with pytest.raises(NumericsError):
        to_uint8(torch.full((1, 3, 2, 2), torch.nan))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm", ".PNG"])
def test_lossless_formats(colours: np.ndarray, suffix: str, tmp_path: Path) -> None:
    save_picture(tmp_path / f"a{suffix}", colours)
    assert np.array_equal(open_picture(tmp_path / f"a{suffix}"), colours)


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_lossy_formats(suffix: str) -> None:
    flat = np.full((16, 16, 3), 90, np.uint8)
    assert np.abs(open_picture(encode_picture(flat, suffix)).astype(int) - 90).max() < 4


def test_unknown_suffix_and_size_beyond_the_format(colours: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"'\.xyz'; known: png"):
        encode_picture(colours, ".xyz")
    with pytest.raises(MediaError, match="16384×1"):
        encode_picture(np.zeros((1, 16384, 3), np.uint8), ".webp")


def test_files_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.bin"
    write_file(path, b"one")
    with pytest.raises(MediaError, match=r"exists already; -f"):
        write_file(path, b"two")
    assert path.read_bytes() == b"one"
    write_file(path, b"three", Existing.REPLACE)
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"three"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(MediaError, match="the disk is full"):
        write_file(tmp_path / "a.bin", b"one")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a.bin", b"one")
    assert list(tmp_path.iterdir()) == []


def test_devices_are_written_through() -> None:
    write_file("/dev/null", b"one")
    assert Path("/dev/null").is_char_device()
