"""Editing: what is kept is kept bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bsq.codec.shelf import priors_for
from bsq.codec.stream import read_available, write_codes
from bsq.codec.writer import describe
from bsq.errors import CheckpointError, SettingsError, ShapeError
from bsq.generate.edit import Editor
from bsq.generate.folder import TrainedGenerator, load_generator
from bsq.generate.network import Generator
from bsq.generate.repair import repair
from bsq.generate.sampler import SamplerSettings
from bsq.tokenizer import Tokenizer


@pytest.fixture
def editor(trained: TrainedGenerator, tiny_tokenizer: Tokenizer) -> Editor:
    return Editor(trained, tiny_tokenizer, SamplerSettings(steps=4))


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_inpainting_keeps_the_other_half(editor: Editor, pixels: torch.Tensor) -> None:
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[:, 20:] = True
    codes = editor.tokenizer.encode(pixels)
    edited = editor.inpaint(pixels, mask, number=1, seed=5)
    assert edited.made[0, 0].tolist() == [[False, False, True, True, True]] * 4  # 20 lies inside the third column
    assert torch.equal(edited.codes.digits[~edited.made], codes.digits[~edited.made])
    assert not torch.equal(edited.codes.digits[edited.made], codes.digits[edited.made])
    assert (edited.kept[~edited.made] == 12).all()
    assert (edited.kept[edited.made] == 8).all()
    assert edited.pixels(editor.tokenizer).shape == (1, 3, 1, 32, 40)
    assert edited.codes == editor.inpaint(pixels, mask, number=1, seed=5).codes
    assert edited.codes != editor.inpaint(pixels, mask, number=1, seed=6).codes


def test_outpainting_keeps_the_middle(editor: Editor, pixels: torch.Tensor) -> None:
    codes = editor.tokenizer.encode(pixels)
    edited = editor.outpaint(pixels, (1, 0, 2, 1))
    assert edited.codes.shape == (1, 1, 5, 8, 12)
    assert torch.equal(edited.codes.digits[:, :, 1:, 2:7], codes.digits)
    assert int(edited.made.sum()) == 40 - 20
    with pytest.raises(SettingsError, match="margins"):
        editor.outpaint(pixels, (0, 0, 0, 0))


def test_another_class_forgets_a_share(editor: Editor, pixels: torch.Tensor) -> None:
    codes = editor.tokenizer.encode(pixels)
    edited = editor.change(pixels, 2, 0.5, seed=1)
    assert 4 < int(edited.made.sum()) < 16
    assert torch.equal(edited.codes.digits[~edited.made], codes.digits[~edited.made])
    with pytest.raises(SettingsError, match="share"):
        editor.change(pixels, 2, 0.0)


def test_a_change_is_the_same_in_any_batch(editor: Editor, pixels: torch.Tensor) -> None:
    both = editor.change(pixels.expand(2, -1, -1, -1), 2, 0.5, seed=1)
    alone = editor.change(pixels, 2, 0.5, seed=1, first=1)
    assert torch.equal(alone.made[0], both.made[1])
    assert torch.equal(alone.codes.digits[0], both.codes.digits[1])


def test_going_on_keeps_the_frames_before(editor: Editor) -> None:
    clip = torch.rand(1, 3, 2, 32, 40) * 2 - 1
    edited = editor.go_on(clip, 2)
    assert edited.codes.shape == (1, 4, 4, 5, 12)
    assert torch.equal(edited.codes.digits[:, :2], editor.tokenizer.encode(clip).digits)
    assert edited.pixels(editor.tokenizer).shape == (1, 3, 4, 32, 40)


def test_a_damaged_stream_keeps_what_it_gave(editor: Editor) -> None:
    pixels = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = editor.tokenizer.encode(pixels)
    data = write_codes(codes, describe(editor.tokenizer, 128, 160, 12), priors_for(editor.tokenizer)[0])
    stream = read_available(data[: len(data) * 2 // 3], priors_for(editor.tokenizer))
    assert 0 < float(stream.known.float().mean()) < 1
    partial = repair(stream, editor, seed=3)
    prefix = stream.known.long().cumprod(-1).bool()[None]
    assert torch.equal(partial.codes.digits[prefix], codes.digits[prefix])
    assert (partial.kept >= 8).all()
    assert editor.tokenizer.decode(partial.codes, (128, 160), kept=partial.kept).shape == (1, 3, 1, 128, 160)


def test_masks_that_do_not_fit_are_refused(editor: Editor, pixels: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"\(30, 40\)"):
        editor.inpaint(pixels, torch.ones(40, 30, dtype=torch.bool))
    with pytest.raises(SettingsError, match="hides nothing"):
        editor.inpaint(pixels, torch.zeros(30, 40, dtype=torch.bool))


def test_learned_positions_tell_their_size_in_pixels(
    make_generator: Callable[..., Generator], trained: TrainedGenerator, tiny_tokenizer: Tokenizer, pixels: torch.Tensor
) -> None:
    editor = Editor(TrainedGenerator(make_generator(), trained.card), tiny_tokenizer)
    assert editor.inpaint(pixels, torch.ones(30, 40, dtype=torch.bool)).made.all()
    with pytest.raises(ShapeError, match="pictures must have 40×32 pixels, got 48×48; resize"):
        editor.outpaint(pixels, (1, 1, 1, 0))
    with pytest.raises(ShapeError, match="makes up to 1 frames"):
        editor.go_on(pixels[:, :, None], 1)


def test_another_tokenizer_is_refused(trained: TrainedGenerator, other_tokenizer: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="name the right one"):
        Editor(trained, other_tokenizer)


def test_folders_are_read_back_and_checked(generator_folder: Path, trained: TrainedGenerator) -> None:
    again = load_generator(generator_folder)
    assert again.card.class_names == trained.card.class_names
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
    weights = generator_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_generator(generator_folder)
    with pytest.raises(CheckpointError, match="no generator"):
        load_generator(generator_folder / "nothing")
