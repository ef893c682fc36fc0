"""Inception once more, from a table of its branches: that layers are joined as published, whatever their weights."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bsq.frozen.inception import Inception

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
    with torch.inference_mode():
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
