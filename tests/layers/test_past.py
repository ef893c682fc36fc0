import pytest
import torch

from bsq.layers.past import Past


def frames(count: int) -> list[torch.Tensor]:
    """Frame t holds t everywhere: (n, heads, S, d)."""
    return [torch.full((2, 3, 4, 5), float(t)) for t in range(count)]


@pytest.mark.parametrize("window", [None, 1, 2, 3, 5])
def test_a_frame_sees_itself_and_those_of_the_window_before_it(window):
    past = Past(window)
    for t, frame in enumerate(frames(17)):
        keys, values = past.take_in(frame, -frame)
        first = 0 if window is None else max(0, t + 1 - window)
        assert sorted(keys[1, 2, ::4, 0].tolist()) == list(range(first, t + 1))
        assert keys.shape == (2, 3, 4 * (t + 1 - first), 5)
        assert torch.equal(values, -keys)
    assert past.frames == 17


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_memory_is_bounded_by_the_window(window):
    past = Past(window)
    for frame in frames(40):
        keys, _ = past.take_in(frame, frame)
        assert keys.untyped_storage().nbytes() <= window * frame.nbytes


def test_without_a_window_memory_at_most_doubles_what_is_seen():
    past = Past(None)
    for t, frame in enumerate(frames(40)):
        keys, _ = past.take_in(frame, frame)
        assert keys.untyped_storage().nbytes() <= 2 * (t + 1) * frame.nbytes
