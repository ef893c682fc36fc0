"""What all tests share: no network, real photographs, a tokenizer small enough to run everywhere."""

from __future__ import annotations

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bsq.tokenizer import Tokenizer

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


@pytest.fixture(scope="session", autouse=True)
def one_thread_a_worker() -> None:
    """Workers that all use every core are slower than workers that use one each."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """`example("bundle")`: examples/bundle.py as a module, loaded anew."""

    def load(name: str) -> ModuleType:
        spec = spec_from_file_location(name, Path(__file__).parents[1] / "examples" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Path]:
    """The path of a real photograph: astronaut (512×512), chelsea (451×300), coffee (600×400) or rocket (640×427).

    The files lie in scikit-image's wheel; they are found without importing it, so nothing can be fetched.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-image, whose wheel carries the photographs, is not installed")
    folder = Path(spec.origin).parent / "data"
    paths = {Path(name).stem: folder / name for name in PHOTOS}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    assert not missing, f"scikit-image's wheel no longer carries {missing}"
    return lambda name: paths[name]


def make_tiny_tokenizer(seed: int) -> Tokenizer:
    import torch

    from bsq.tokenizer import Tokenizer, TokenizerSettings

    torch.manual_seed(seed)
    transformer = {"width": 32, "depth": 1, "head_width": 16}
    settings = {"patch": 8, "quantizer": {"kind": "bsq", "bits": 12}, "encoder": transformer, "decoder": transformer}
    return Tokenizer(TokenizerSettings.model_validate(settings)).eval()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """A random tokenizer of 12 bits, patch 8: pictures come out as noise, but files, sizes and bits are real."""
    return make_tiny_tokenizer(0)


@pytest.fixture(scope="session")
def other_tokenizer() -> Tokenizer:
    """As `tiny_tokenizer`, with other weights."""
    return make_tiny_tokenizer(1)


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tiny_tokenizer`."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other_model(other_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `other_tokenizer`."""
    folder = tmp_path_factory.mktemp("models") / "other"
    other_tokenizer.save_pretrained(folder)
    return folder
