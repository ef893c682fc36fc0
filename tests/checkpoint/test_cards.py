"""Folders and repositories of models: cards that say something, priors that go along. The hub alone is not real."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, hub_mixin

import bsq
from bsq.checkpoint.load import MODELS
from bsq.codec.shelf import named_model, prior_called
from bsq.tokenizer import Tokenizer

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is pushed lies here, a folder for each repository: where the network would be."""

    class Api:
        def __init__(self, token: str | None = None) -> None:
            del token

        def create_repo(self, repo_id: str, **options: Any) -> SimpleNamespace:
            assert options["exist_ok"]
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> str:
            assert options["repo_type"] == "model"
            shutil.copytree(folder_path, tmp_path / repo_id)
            return f"https://example.org/{repo_id}"

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    return tmp_path


def test_a_pushed_model_has_a_card_that_says_what_it_is(hub: Path, tiny_tokenizer: Tokenizer) -> None:
    assert tiny_tokenizer.push_to_hub("somebody/tiny") == "https://example.org/somebody/tiny"
    card = ModelCard.load(hub / "somebody/tiny/README.md")
    assert card.data.library_name == "bsq"
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "image-to-image"
    assert "image-tokenizer" in card.data.tags
    assert "arxiv:2406.07548" in card.data.tags
    assert "8×8 pixels of a picture or of a frame become 12 bits" in card.text
    assert tiny_tokenizer.code_hash in card.text
    assert f"| bits per pixel, before entropy coding | {12 / 64:.4g} |" in card.text
    assert 'bsq.load("somebody/tiny")' in card.text
    assert not re.search(r"[{}]|Needed", card.text)


def test_what_was_pushed_comes_back(hub: Path, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_tokenizer.push_to_hub("somebody/tiny")
    monkeypatch.chdir(hub)  # where the id names a folder, which goes before the hub
    again = bsq.load("somebody/tiny")
    assert again.code_hash == tiny_tokenizer.code_hash
    pixels = torch.rand(1, 3, 24, 24) * 2 - 1
    assert torch.equal(again.reconstruct(pixels), tiny_tokenizer.reconstruct(pixels))


def test_the_example_on_the_card_works(hub: Path, tiny_tokenizer: Tokenizer, photo: Any) -> None:
    tiny_tokenizer.push_to_hub("somebody/tiny")
    (code,) = BLOCK.findall((hub / "somebody/tiny/README.md").read_text())
    shutil.copy(photo("rocket"), hub / "photo.jpg")
    script = f"{code}\nassert picture.shape == (427, 640, 3); assert tokenizer.radices == (2,) * 12"
    done = subprocess.run([sys.executable, "-c", script], cwd=hub, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("quantizer", [{"kind": "kl"}, {"kind": "vq", "size": 512, "width": 4}], ids=str)
def test_cards_of_other_kinds(quantizer: dict[str, Any], tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    settings = tiny_tokenizer.settings.model_dump() | {"quantizer": quantizer}
    Tokenizer(type(tiny_tokenizer.settings).model_validate(settings)).save_pretrained(tmp_path / "other")
    card = ModelCard.load(tmp_path / "other/README.md")
    assert "arxiv:2406.07548" not in card.data.tags
    assert {"kl": "a continuous latent", "vq": "one of 512 codes"}[quantizer["kind"]] in card.text
    assert ("bsq encode" in card.text) == (quantizer["kind"] == "vq")


def test_card_and_prior_of_the_bundled_model_go_along(tmp_path: Path) -> None:
    model = bsq.load("biscuit-s")
    model.save_pretrained(tmp_path / "same")
    ours, theirs = (ModelCard.load(folder / "README.md") for folder in (tmp_path / "same", MODELS / "biscuit-s"))
    assert ours.text == theirs.text
    assert ours.data.to_dict() == theirs.data.to_dict()
    assert prior_called("learned", named_model(tmp_path / "same")).identity == prior_called("learned", model).identity

    with torch.no_grad():
        model.decoder.from_code.weight += 0.01  # other pixels, the same codes
    model.save_pretrained(tmp_path / "painted")
    assert "Not measured yet" in (tmp_path / "painted/README.md").read_text()
    assert (tmp_path / "painted/prior.safetensors").is_file()

    with torch.no_grad():
        model.encoder.embed.weight += 0.01
    model.save_pretrained(tmp_path / "tuned")
    assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_the_bundled_models_card_gives_the_hub_its_own_table() -> None:
    card = ModelCard.load(MODELS / "biscuit-s/README.md")
    assert card.data.library_name == "bsq"
    metrics = {result.metric_name: result.metric_value for result in card.data.eval_results}
    rows = re.findall(
        r"^\| (\d+) \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", card.text, re.MULTILINE
    )
    assert len(rows) == 4
    for bits, bpp, psnr, ms_ssim, lpips in rows:
        assert metrics[f"file bits per pixel at {bits} bits"] == float(bpp)
        assert metrics[f"PSNR in dB at {bits} bits"] == float(psnr)
        assert metrics[f"MS-SSIM in dB at {bits} bits"] == float(ms_ssim)
        assert metrics[f"LPIPS-squeeze at {bits} bits"] == float(lpips)
    assert len(metrics) == 4 * len(rows)
