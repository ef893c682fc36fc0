"""Training of a decoder alone: the codes stay to the last bit, the pixels get better."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import MODEL, tiny, write_pictures

from bsq.checkpoint import load
from bsq.data.pictures import open_picture, to_pixels
from bsq.errors import SettingsError
from bsq.tokenizer import Tokenizer, TokenizerSettings
from bsq.train.loop import Start, run
from bsq.train.plan import plan_run
from bsq.train.recipe import check_recipe


@pytest.fixture
def initial(tmp_path: Path) -> str:
    torch.manual_seed(0)
    Tokenizer(TokenizerSettings.model_validate(MODEL)).save_pretrained(tmp_path / "initial")
    return str(tmp_path / "initial")


def test_a_decoder_alone_learns(initial: str, tmp_path: Path) -> None:
    fast = {"kind": "adamw", "learning_rate": 2e-2}
    pictures = write_pictures(tmp_path / "pictures")
    recipe = tiny(pictures, learns="decoder", initial=initial, pictures=240, optimizer=fast, samples={"every": 240})
    result = run(recipe, tmp_path / "run")
    before, after = load(initial), load(result.model)
    assert after.code_hash == before.code_hash
    for name, tensor in before.encoder.state_dict().items():
        assert tensor.equal(after.encoder.state_dict()[name])
    assert not before.decoder.state_dict()["to_patches.2.weight"].equal(
        after.decoder.state_dict()["to_patches.2.weight"]
    )
    pixels = torch.cat([to_pixels(open_picture(path))[..., :32, :32] for path in sorted(pictures.iterdir())])
    far, near = (float((model.reconstruct(pixels) - pixels).square().mean()) for model in (before, after))
    assert near < 0.9 * far


def test_it_resumes_as_what_it_was(initial: str, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    run(tiny(pictures, learns="decoder", initial=initial, pictures=24), tmp_path / "run")
    with pytest.raises(SettingsError, match="learns=decoder"):
        run(tiny(pictures, initial=initial), tmp_path / "run", Start.RESUME)
    run(tiny(pictures, learns="decoder", initial=initial), tmp_path / "run", Start.RESUME)
    assert load(tmp_path / "run" / "model").code_hash == load(initial).code_hash


def test_a_plan_knows_what_learns(initial: str, tmp_path: Path) -> None:
    whole, part = (plan_run(tiny(tmp_path, initial=initial, learns=learns)) for learns in ("all", "decoder"))
    assert part.state_bytes < whole.state_bytes
    assert part.flops < whole.flops
    assert part.parameters == whole.parameters


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "needs a model whose codes it decodes"),
        ({"initial": "x", "model": MODEL | {"quantizer": {"kind": "vq", "size": 16}}, "nested": None}, "vq changes"),
    ],
)
def test_what_cannot_be_held_still_is_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    content = tiny(tmp_path).model_dump(mode="json") | {"learns": "decoder"} | changes
    with pytest.raises(SettingsError, match=reason):
        check_recipe(content, "here")
