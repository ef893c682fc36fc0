from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from bsq.errors import CheckpointError
from bsq.frozen import files, inception
from bsq.frozen.inception import Inception, load_inception

# Every block of the published network: its branches, each a chain of layers from the block's input. "a|b" are side by
# side, "avg" and "max" are 3 × 3 pooling with stride 1, "halve" with stride 2.
BLOCKS = {
    "Mixed_5": [
        "branch1x1",
        "branch5x5_1 branch5x5_2",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        "avg branch_pool",
    ],
    "Mixed_6a": ["branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "halve"],
    "Mixed_6": [
        "branch1x1",
        "branch7x7_1 branch7x7_2 branch7x7_3",
        "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5",
        "avg branch_pool",
    ],
    "Mixed_7a": [
        "branch3x3_1 branch3x3_2",
        "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
        "halve",
    ],
    "Mixed_7b": [
        "branch1x1",
        "branch3x3_1 branch3x3_2a|branch3x3_2b",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b",
        "avg branch_pool",
    ],
    "Mixed_7c": [
        "branch1x1",
        "branch3x3_1 branch3x3_2a|branch3x3_2b",
        "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b",
        "max branch_pool",
    ],
}
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "halve", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "halve")
MIXED = [f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]
STRIDED = ("1a_3x3", "6a.branch3x3", "6a.branch3x3dbl_3", "7a.branch3x3_2", "7a.branch7x7x3_4")  # with stride 2
UNPADDED = (*STRIDED, "2a_3x3", "4a_3x3")
WIDTHS = {"5b": 256, "5c": 288, "5d": 288, "6a": 768, "6b": 768, "6e": 768, "7a": 1280, "7b": 2048, "7c": 2048}


@pytest.fixture(scope="module")
def network() -> Inception:
    """Random weights of a size that keeps activations alive through all layers."""
    model, generator = Inception(), torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("conv.weight"):
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("running_mean", "bn.bias", "fc.bias")):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.8, 1.2, generator=generator)
    return model


def by_the_table(tensors: dict[str, Tensor], hidden: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Names and outputs of all layers of the stem and all blocks."""

    def layer(name: str, hidden: Tensor) -> Tensor:
        match name.split(".")[-1]:
            case "avg":
                counted = F.conv2d(torch.ones_like(hidden[:1, :1]), torch.ones(1, 1, 3, 3), padding=1)
                return F.avg_pool2d(hidden, 3, 1, 1, divisor_override=1) / counted  # padding does not count
            case "max":
                return F.max_pool2d(hidden, 3, 1, 1)
            case "halve":
                return F.max_pool2d(hidden, 3, 2)
        weight = tensors[f"{name}.conv.weight"]
        padding = [0 if name.endswith(UNPADDED) else side // 2 for side in weight.shape[2:]]
        hidden = F.conv2d(hidden, weight, stride=2 if name.endswith(STRIDED) else 1, padding=padding)
        norm = {part: tensors[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(hidden, **norm, eps=0.001).clamp(min=0)

    for name in STEM:
        hidden = layer(name, hidden)
        yield name, hidden
    for block in MIXED:
        outputs = []
        for branch in BLOCKS.get(block) or BLOCKS[block[:-1]]:
            *chain, last = branch.split()
            inner = hidden
            for name in chain:
                inner = layer(f"{block}.{name}", inner)
            outputs += [layer(f"{block}.{name}", inner) for name in last.split("|")]
            yield f"{block}.{last}", outputs[-1]
        hidden = torch.cat(outputs, 1)
        yield block, hidden


def test_it_is_the_published_network(network: Inception) -> None:
    """Names, sizes and values, against a table of its branches; two pictures."""
    pictures = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = network(pictures)
    tensors = network.state_dict()
    layers = dict(by_the_table(tensors, pictures))
    for name, width in WIDTHS.items():
        side = {"5": 35, "6": 17, "7": 8}[name[0]]
        assert layers[f"Mixed_{name}"].shape == (2, width, side, side)
    pooled = layers["Mixed_7c"].mean((2, 3))
    assert pooled.std() > 0.01
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-4, atol=1e-4)
    spatial = layers["Mixed_6d.branch1x1"][:, :7]
    torch.testing.assert_close(found.spatial.unflatten(1, (17, 17, 7)), spatial.movedim(1, -1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.logits, pooled @ tensors["fc.weight"].T, rtol=1e-4, atol=1e-4)
    assert (found.pooled.shape, found.spatial.shape, found.logits.shape) == ((2, 2048), (2, 2023), (2, 1008))


def test_names_and_numbers_of_the_published_file() -> None:
    """566 tensors of 94 convolutions and one layer of classes, in torchvision's names: 95.5 MB of its 95.6."""
    model = Inception()
    tensors = model.state_dict()
    assert len(tensors) == 566
    convolutions = {name.removesuffix(".conv.weight") for name in tensors if name.endswith(".conv.weight")}
    assert len(convolutions) == 94
    for name in convolutions:
        parts = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
        assert all(f"{name}.{part}" in tensors for part in parts)
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_834_568 + 8 * 2049
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6b.branch7x7dbl_2.conv.weight": (128, 128, 7, 1),
        "Mixed_6e.branch7x7_2.conv.weight": (192, 192, 1, 7),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }
    assert {name: tuple(tensors[name].shape) for name in shapes} == shapes
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.train().training


def test_from_files(network: Inception, tmp_path: Path) -> None:
    tensors = network.state_dict()
    torch.save(tensors, tmp_path / "weights.pth")
    older = {name: value for name, value in tensors.items() if "num_batches" not in name}
    save_file(older, tmp_path / "weights.safetensors")
    for name in ("weights.pth", "weights.safetensors"):
        loaded, digest = load_inception(tmp_path / name)
        assert digest == files.sha256(tmp_path / name)
        assert all(torch.equal(value, tensors[key]) for key, value in loaded.state_dict().items())


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        load_inception(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_inception(tmp_path / "text.pth")
    save_file({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.safetensors")
    with pytest.raises(CheckpointError, match="of 566 tensors are missing or of another size, the first is Conv2d_1a"):
        load_inception(tmp_path / "torchvision.safetensors")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        load_inception()
    for words in ("FID needs pt_inception-2015-12-05-6726825d.pth", "https://github.com/mseitzer", "SqueezeNet"):
        assert words in str(caught.value)
    assert inception.INCEPTION.sha256.startswith("6726825d")  # as the file's name says
