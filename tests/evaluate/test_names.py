import pytest

from bsq.evaluate.systems.names import shown_path, shown_spec


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("biscuit-s@18", "biscuit-s@18"),
        ("/data/runs/lfq@18+prior", "lfq@18+prior"),
        ("LFQ=/data/runs/lfq@18", "LFQ=lfq@18"),
        ("LFQ=../runs/lfq", "LFQ=lfq"),
        ("dalle:/weights/dvae", "dalle:dvae"),
        ("SD=diffusers:stabilityai/sd-vae-ft-mse", "SD=diffusers:stabilityai/sd-vae-ft-mse"),
        ("webp@as:/data/lfq@18", "webp@as:lfq@18"),
        ("biscuit-s:perceptual@18", "biscuit-s:perceptual@18"),
        ("/data/mine:perceptual@18+prior", "mine:perceptual@18+prior"),
    ],
)
def test_systems_without_the_folders_of_this_machine(typed: str, shown: str) -> None:
    assert shown_spec(typed) == shown


def test_paths() -> None:
    assert shown_path("/data/photos") == "photos"
    assert shown_path("/data/photos/") == "photos"
    assert shown_path("photos/val") == "photos/val"
