"""The authors' code and ours on the same weights (golden files), and the conversion of their checkpoints."""

import argparse
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bsq.checkpoint import OfficialSettings, convert_official, load
from bsq.codes import Codes
from bsq.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = ["official_image_b18_group9", "official_image_b36_perbit", "official_video_b18_full"]


def golden(name):
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        heads = int(file.metadata()["heads"])
    tensors = load_file(path)
    state = {key.removeprefix("state_dict."): t for key, t in tensors.items() if key.startswith("state_dict.")}
    return tensors, state, heads


@pytest.fixture(params=FILES)
def converted(request, tmp_path):
    tensors, state, heads = golden(request.param)
    path = tmp_path / "official.safetensors"
    save_file(state, path)
    return tensors, convert_official(path, OfficialSettings(heads=heads)).tokenizer


def rows(tensor):
    """(B, T, h, w, L) → (B, N, L), as the golden files have it."""
    return tensor.reshape(tensor.shape[0], -1, tensor.shape[-1])


def test_latents_bits_and_pixels_equal_the_authors(converted):
    tensors, tokenizer = converted
    pixels = tensors["pixels"] if tensors["pixels"].ndim == 5 else tensors["pixels"][:, :, None]
    latent = tokenizer.encoder(pixels)
    torch.testing.assert_close(rows(latent), tensors["hidden_latent"], atol=1e-5, rtol=0)
    codes = tokenizer.encode(pixels)
    assert torch.equal(rows(codes.digits), tensors["bits"])
    groups = codes.groups(codes.length // tensors["group_indices"].shape[-1])
    assert torch.equal(rows(groups.digits).long(), tensors["group_indices"])
    quantized = tokenizer.quantizer(latent).quantized
    torch.testing.assert_close(rows(quantized), tensors["quantized"], atol=1e-6, rtol=0)
    wanted = tensors["reconstruction_unclamped"].view_as(pixels)
    torch.testing.assert_close(tokenizer.decoder(quantized), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(tokenizer.decode(codes), wanted.clamp(-1, 1), atol=1e-4, rtol=0)
    again = tokenizer.decode(Codes(tensors["bits"].view(codes.shape), codes.radices))
    torch.testing.assert_close(again.view_as(tensors["reconstruction"]), tensors["reconstruction"], atol=1e-4, rtol=0)


def test_settings_are_read_off_the_tensors(converted):
    tensors, tokenizer = converted
    settings = tokenizer.settings
    assert settings.quantizer.bits == tensors["bits"].shape[-1]
    assert settings.quantizer.group == tensors["state_dict.module.quantize.group_basis"].shape[0]
    assert settings.encoder.depth == settings.decoder.depth == 2
    assert settings.patch == 8


def test_a_converted_model_survives_saving_and_loading(converted, tmp_path):
    _, tokenizer = converted
    tokenizer.save_pretrained(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert again.settings == tokenizer.settings
    assert again.code_hash == tokenizer.code_hash
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


class Config(dict):
    """Stands for the OmegaConf object beside the weights; unpickling it must not run anything of it."""

    def __reduce__(self):
        return (eval, ("(_ for _ in ()).throw(SystemExit('a foreign object was executed'))",))


def write_checkpoint(path, averaged=True, prefix="module."):
    _, state, _ = golden(FILES[1])
    weights = OrderedDict((prefix + key.removeprefix("module."), tensor) for key, tensor in state.items())
    ema = OrderedDict(
        (f"module.{key}", tensor + 1 if tensor.is_floating_point() else tensor) for key, tensor in state.items()
    )
    content = {
        "state_dict": weights,
        "ema_state_dict": ema if averaged else None,
        "config": Config(a=1),
        "args": argparse.Namespace(lr=1.0, nested=argparse.Namespace(b=[1, 2])),
        "step": 7,
    }
    torch.save(content, path)
    return state


def test_a_pickle_with_foreign_objects_is_read_and_none_of_them_run(tmp_path):
    state = write_checkpoint(tmp_path / "c.pt")
    raw = convert_official(tmp_path / "c.pt", OfficialSettings(heads=4, weights="raw"))
    auto = convert_official(tmp_path / "c.pt", OfficialSettings(heads=4))
    assert (raw.weights, auto.weights) == ("raw", "ema")
    embed = state["module.encoder.conv1.weight"]
    assert torch.equal(raw.tokenizer.encoder.embed.weight, embed)
    assert torch.equal(auto.tokenizer.encoder.embed.weight, embed + 1)
    assert raw.parameters == sum(p.numel() for p in raw.tokenizer.parameters())


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod.", "module._orig_mod."])
def test_known_prefixes_are_accepted(tmp_path, prefix):
    write_checkpoint(tmp_path / "c.pt", averaged=False, prefix=prefix)
    assert convert_official(tmp_path / "c.pt", OfficialSettings(heads=4)).weights == "raw"


def test_time_and_heads_are_what_the_file_does_not_say(tmp_path):
    _, state, _ = golden(FILES[2])
    save_file(state, tmp_path / "v.safetensors")
    full = convert_official(tmp_path / "v.safetensors", OfficialSettings(heads=2)).tokenizer
    causal = convert_official(tmp_path / "v.safetensors", OfficialSettings(heads=2, time="causal")).tokenizer
    four = convert_official(tmp_path / "v.safetensors", OfficialSettings(heads=4)).tokenizer
    pixels = torch.rand(1, 3, 4, 16, 16)
    assert not torch.equal(full.encoder(pixels), causal.encoder(pixels))
    assert not torch.equal(full.encoder(pixels), four.encoder(pixels))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("module.decoder.ffn.0.bias"), r"missing decoder.to_patches.0.bias \(128,\)"),
        (lambda s: s.update({"module.extra": torch.ones(3)}), r"unknown extra \(3,\)"),
        (lambda s: s.update({"module.decoder.ffn.0.bias": torch.ones(5)}), r"is \(5,\), the model wants \(128,\)"),
        (lambda s: s["module.decoder.ffn.0.bias"].fill_(float("nan")), "not finite"),
        (lambda s: s.pop("module.encoder.conv1.weight"), "not a BSQ-ViT checkpoint"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, words):
    _, state, heads = golden(FILES[1])
    change(state)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=words):
        convert_official(tmp_path / "bad.safetensors", OfficialSettings(heads=heads))


def write_changed(path, change):
    _, state, _ = golden(FILES[1])
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update({"encoder.conv1.weight": torch.zeros(64, 192)}), "encoder.conv1.weight twice"),
        (lambda s: s.update({7: torch.ones(3)}), "a tensor is called 7"),
        (lambda s: s.update({"module.quant_embed.weight": torch.ones(1, 1).expand(10**9, 64)}), "claims to be"),
        (lambda s: s.update({"module.quant_embed.weight": torch.ones(2000, 64)}), "bits=2000 is no size of a model"),
        (lambda s: s.update({"module.quantize.group_basis": torch.tensor(1)}), "of another rank"),
        (lambda s: s.update({"module.encoder.positional_embedding": torch.tensor(1.0)}), "of another rank"),
        (lambda s: s.update({"module.encoder.conv1.weight": torch.ones(400_000, 12)}), "does not fit the model"),
        (lambda s: s.update({"module.decoder.ffn.0.bias": torch.ones(128).int()}), "is torch.int32"),
    ],
)
def test_what_no_checkpoint_of_theirs_holds_is_refused_before_anything_is_allocated(tmp_path, change, words):
    write_changed(tmp_path / "bad.pt", change)
    with pytest.raises(CheckpointError, match=words):
        convert_official(tmp_path / "bad.pt", OfficialSettings(heads=4))


@pytest.mark.parametrize("body", [b"", b"\x80\x02.", b"\x80\x02K\x05Q.", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f"])
def test_broken_pickles_give_plain_errors(tmp_path, body):
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("a/data.pkl", body)
        archive.writestr("a/version", "3\n")
    with pytest.raises(CheckpointError, match="cannot be read as a torch checkpoint"):
        convert_official(tmp_path / "bad.pt")


def test_a_flipped_bit_in_a_weight_is_noticed(tmp_path):
    write_changed(tmp_path / "c.pt", lambda state: None)
    data = bytearray((tmp_path / "c.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "c.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match="the checksum of"):
        convert_official(tmp_path / "c.pt", OfficialSettings(heads=4))


def test_programs_are_not_run(tmp_path):
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"a/{name}", "")
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        convert_official(tmp_path / "program.pt")


def test_bad_files_give_plain_errors(tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        convert_official(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a torch checkpoint in zip format"):
        convert_official(tmp_path / "text.pt")
    write_checkpoint(tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cut short"):
        convert_official(tmp_path / "cut.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="not a torch checkpoint"):
        convert_official(tmp_path / "bare.pkl")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        convert_official(tmp_path / "list.pt")
    write_checkpoint(tmp_path / "noema.pt", averaged=False)
    with pytest.raises(CheckpointError, match="no averaged weights"):
        convert_official(tmp_path / "noema.pt", OfficialSettings(weights="ema"))
    with pytest.raises(CheckpointError, match="give the number of heads"):
        convert_official(tmp_path / "noema.pt")
