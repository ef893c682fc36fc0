"""The page in a browser: upload, dial, download, decode, wrong files; and nothing is asked of any other machine.

Needs gradio, selenium, Chromium and its driver; skipped with the reason where one is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

PATIENCE = 600  # seconds, for a machine that is busy with other things
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
LOCAL = re.compile(r"^(http://127\.0\.0\.1:|data:|blob:|chrome:|about:)")


def need(present: bool, what: str) -> None:
    if not present:
        pytest.skip(f"{what} is not here")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A page of the bundled model."""
    need(find_spec("gradio") is not None, "gradio (pip install 'bsq[demo]')")
    need(find_spec("selenium") is not None, "selenium (pip install 'bsq[dev]')")
    need(CHROMIUM is not None, "Chromium")
    need(DRIVER is not None, "chromedriver")
    command = [sys.executable, "-m", "bsq.cli.main", "demo", "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert found, said
        yield found[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()


class Page:
    """A browser on the page."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return " ".join(self.find(selector).text.split())

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Elements come and go while gradio draws, so any error means not yet."""
        end, trouble = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            try:
                if result := holds():
                    return result
            except Exception as error:
                trouble = f"; {type(error).__name__}: {error}"
            time.sleep(0.3)
        pytest.fail(f"waited in vain for {what}{trouble}")

    def drop(self, selector: str, path: Path) -> None:
        self.until(lambda: self.find(f"{selector} input[type=file]"), f"a place in {selector} to drop a file")
        self.find(f"{selector} input[type=file]").send_keys(str(path))

    def figure(self, name: str) -> str:
        return self.find(f"#figures b[data-name='{name}']").text

    def scores(self) -> tuple[int, float]:
        """Bytes and PSNR, once both are there."""
        self.until(lambda: self.figure("PSNR") not in ("", "–"), "scores")
        return int(self.figure("File").replace(",", "")), float(self.figure("PSNR"))

    def turn(self, selector: str, value: int) -> None:
        """A slider, by the number beside it."""
        field = self.find(f"{selector} input[type=number]")
        field.send_keys("\ue009a\ue000", str(value), "\ue004")  # all of it, and away by tab

    def asked(self) -> list[str]:
        """Addresses of all requests so far."""
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1440,1600"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    os.environ.setdefault("NO_PROXY", "localhost,127.0.0.1")
    browser = Chrome(options=options, service=Service(DRIVER))
    try:
        browser.set_page_load_timeout(PATIENCE)
        browser.get(address)
        shown = Page(browser)
        shown.until(lambda: shown.find("#upload input[type=file]"), "the page")
        yield shown
    finally:
        browser.quit()


@pytest.fixture
def small(photo: Callable[[str], Path], tmp_path: Path) -> Path:
    """A part of a photograph, so that a slow machine has an answer in seconds."""
    from PIL import Image

    path = tmp_path / "astronaut part.png"
    Image.open(photo("astronaut")).crop((120, 0, 312, 192)).save(path)
    return path


def test_upload_dial_download_decode(page: Page, small: Path, tmp_path: Path) -> None:
    from bsq.codec.picture import compress, decompress
    from bsq.data.pictures import open_picture

    page.drop("#upload", small)
    size, psnr = page.scores()
    assert size == len(compress(small, bits=18))
    for name in ("JPEG ", "WebP", "JPEG 2000", "AVIF"):  # one after another
        page.until(lambda name=name: name in page.text("#rivals"), f"{name}among the rivals")
    page.until(lambda: len(page.browser.find_elements("css selector", "#gallery img")) >= 6, "the rivals' pictures")
    page.until(lambda: page.find("#costs img") and page.find("#planes img"), "the map and the planes")

    page.turn("#dial", 36)
    page.until(lambda: int(page.figure("File").replace(",", "")) > size, "a larger file at 36 bits")
    more, better = page.scores()
    assert more == len(compress(small, bits=36))
    assert better > psnr

    page.find("#decoder input[value='perceptual']").click()
    page.until(lambda: page.figure("PSNR") not in ("–", f"{better:.2f}"), "another picture of the same file")
    assert page.scores()[0] == more
    page.find("#decoder input[value='faithful']").click()
    page.until(lambda: page.figure("PSNR") == f"{better:.2f}", "the faithful one again")
    page.find("#searched input").click()
    page.until(lambda: int(page.figure("File").replace(",", "")) != more, "the file that was searched for")
    assert page.scores()[1] > better
    page.find("#searched input").click()
    page.until(lambda: int(page.figure("File").replace(",", "")) == more, "the encoder's file again")

    page.until(lambda: "astronaut part.bsq" in page.text("#download"), "the name of the file")
    page.find("#download").click()
    stream = tmp_path / "astronaut part.bsq"
    page.until(stream.is_file, "the download")
    assert stream.read_bytes() == compress(small, bits=36)

    page.browser.find_element("xpath", "//button[@role='tab'][contains(., 'Open a .bsq')]").click()
    page.drop("#stream", stream)
    page.until(lambda: "nothing is missing" in page.text("#cut"), "the decoded file")
    assert "192 × 192 pixels" in page.text("#facts")
    address = page.until(lambda: page.find("#opened img").get_attribute("src"), "the decoded picture")
    (tmp_path / "again.png").write_bytes(urllib.request.urlopen(address).read())
    again = open_picture(tmp_path / "again.png")
    assert (again == decompress(stream.read_bytes()).repeat(3, 0).repeat(3, 1)).all(), "small ones are magnified"

    page.turn("#share", 50)
    page.until(lambda: "ends early" in page.text("#cut"), "what is missing of half a file")

    others = [address for address in page.asked() if not LOCAL.match(address)]
    assert not others, "the page works offline"


@pytest.mark.parametrize(
    ("where", "name", "data", "says"),
    [
        ("#upload", "words.png", b"I am no picture", "words.png is not a picture"),
        ("#upload", "empty.jpg", b"", "empty.jpg is empty"),
        ("#stream", "words.bsq", b"I am no stream", "words.bsq: "),
    ],
)
def test_wrong_files_are_told_in_plain_words_and_the_page_goes_on(
    page: Page, small: Path, tmp_path: Path, where: str, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    if where == "#stream":
        page.browser.find_element("xpath", "//button[@role='tab'][contains(., 'Open a .bsq')]").click()
    page.drop(where, tmp_path / name)
    page.until(lambda: says in page.text(".toast-body"), "a message")
    assert "Traceback" not in page.browser.page_source
    if where == "#upload":
        page.drop(where, small)
        assert np.isfinite(page.scores()[1])
