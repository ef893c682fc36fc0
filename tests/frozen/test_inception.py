import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from bsq.errors import CheckpointError, SettingsError, ShapeError
from bsq.frozen import files, inception
from bsq.frozen.inception import BlockA, BlockC, BlockE, Inception, load_inception, prepare


@pytest.fixture(scope="module")
def network() -> Inception:
    torch.manual_seed(0)
    model = Inception()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def test_the_whole_network(network: Inception) -> None:
    pixels = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        found = network(prepare(pixels, "pytorch-fid"))
    assert found.pooled.shape == (2, 2048)
    assert found.spatial.shape == (2, 17 * 17 * 7)
    assert found.logits.shape == (2, 1008)
    assert torch.equal(found.logits, found.pooled @ network.fc.weight.T)  # no bias
    assert not torch.equal(found.pooled[0], found.pooled[1])
    assert not network.train().training


def test_tensors_have_the_published_names_and_sizes(network: Inception) -> None:
    """94 convolutions with batch norm. torchvision states 27,161,264 numbers for its own, with a head aside and 1000
    classes.
    """
    state = network.state_dict()
    aside = 768 * 128 + 2 * 128 + 128 * 768 * 5 * 5 + 2 * 768 + 768 * 1000 + 1000
    assert len([name for name in state if name.endswith(".conv.weight")]) == 94
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - aside + 8 * (2048 + 1)
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3dbl_1.conv.weight": (448, 1280, 1, 1),
        "Mixed_7c.branch3x3_2b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }.items():
        assert tuple(state[name].shape) == shape


def test_pools_are_those_of_tensorflow() -> None:
    """Inside branches the mean leaves the padding out; the last block takes the maximum."""
    corner = torch.zeros(1, 1280, 8, 8)
    corner[:, :, 0, 0] = 4.0
    means, largest = BlockE(1280, inception._mean_pool), BlockE(1280, inception._max_pool)
    assert means.pool(corner)[0, 0, 0, 0] == 1.0  # 4 of the 9 places lie inside
    assert largest.pool(corner)[0, 0, 1, 1] == 4.0
    seen: list[torch.Tensor] = []
    for block, width, side in ((BlockA(192, 32), 192, 35), (BlockC(128), 768, 17)):
        block.branch_pool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        block.eval()(torch.ones(1, width, side, side))
        assert torch.equal(seen[-1], torch.ones(1, width, side, side))
    assert Inception().Mixed_7c.pool is inception._max_pool


def test_spatial_features_are_rows_of_places(network: Inception) -> None:
    """Place by place, seven channels each, after the ReLU of Mixed_6d's first branch."""
    kept: list[torch.Tensor] = []
    model = copy.deepcopy(network)
    model.Mixed_6d.branch1x1.register_forward_hook(lambda *call: kept.append(call[-1]))
    with torch.inference_mode():
        found = model(torch.rand(1, 3, 299, 299))
    assert found.spatial.reshape(17, 17, 7)[3, 5].tolist() == kept[0][0, :7, 3, 5].tolist()
    assert found.spatial.min() >= 0


def test_resizing() -> None:
    pixels = torch.rand(1, 3, 130, 400) * 2 - 1
    half_pixel = functional.interpolate(pixels, (299, 299), mode="bilinear", align_corners=False, antialias=False)
    assert torch.equal(prepare(pixels, "pytorch-fid"), half_pixel)
    ramp = torch.linspace(-1, 1, 100, dtype=torch.float64).expand(1, 3, 50, 100)
    found = prepare(ramp, "tensorflow")
    places = (torch.arange(299, dtype=torch.float64) * 100 / 299).clamp(max=99)
    wanted = ((places / 99 * 2 - 1 + 1) * 127.5 - 128) / 128
    assert torch.allclose(found[0, 0, 7], wanted, atol=1e-12)
    full = torch.rand(1, 3, 299, 299, dtype=torch.float64) * 2 - 1
    assert torch.allclose(prepare(full, "tensorflow"), ((full + 1) * 127.5 - 128) / 128, atol=1e-12)
    with pytest.raises(SettingsError, match="no way to resize"):
        prepare(pixels, "lanczos")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="takes"):
        Inception.forward(Inception.__new__(Inception), pixels)


def test_weights_from_a_file(network: Inception, tmp_path: Path) -> None:
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    for name in ("net.pth", "net.safetensors"):
        loaded, digest = load_inception(tmp_path / name)
        assert digest == files.sha256(tmp_path / name)
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())
    (tmp_path / "net.pth").rename(tmp_path / inception.PUBLISHED.name)
    with pytest.raises(CheckpointError, match="not the published"):
        load_inception(tmp_path / inception.PUBLISHED.name)


def test_files_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        load_inception(tmp_path / "absent.pth")
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.pth")
    with pytest.raises(CheckpointError, match="missing or of another size, the first is Conv2d_1a"):
        load_inception(tmp_path / "torchvision.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_inception(tmp_path / "noise.pth")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BSQ_WEIGHTS", raising=False)
    with pytest.raises(CheckpointError, match=r"github\.com/mseitzer/pytorch-fid"):
        load_inception()
