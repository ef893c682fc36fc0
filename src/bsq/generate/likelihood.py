"""The generator as an entropy model. What enters: codes. What leaves: how many bits they would take.

Groups are coded in passes that follow from a seed: which places come in which pass is fixed beforehand, and a pass
knows all earlier ones. The places of a pass are coded each by itself, so with one place a pass the length is that of
the exact chain of conditional probabilities. An entropy coder adds two bits or so in all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bsq.generate.network import Generator, View
from bsq.generate.noise import PASSES, uniform
from bsq.generate.schedule import Schedule, left_after

PORTION = 64


@torch.no_grad()
def code_length(
    network: Generator,
    digits: Tensor,
    classes: Tensor,
    passes: int,
    seed: int = 0,
    schedule: Schedule = "cosine",
) -> Tensor:
    """Bits float64 (B,) of digits (B, T, h, w, L) under classes (B,), coded in so many passes a frame."""
    network.eval()
    parts = zip(digits.split(PORTION), classes.split(PORTION), strict=True)
    return torch.cat([_lengths(network, *part, passes, seed, schedule) for part in parts])


def _lengths(network: Generator, digits: Tensor, classes: Tensor, passes: int, seed: int, way: Schedule) -> Tensor:
    groups = network.grouping.join(digits.to(network.classes.weight.device))
    view, bits = View(network, classes.to(groups.device)), torch.zeros(len(groups), dtype=torch.float64)
    every = torch.arange(groups.shape[2] * groups.shape[3], device=groups.device).expand(len(groups), -1)
    for t in range(groups.shape[1]):
        frame = groups[:, t]
        places = frame[0].numel()
        # One order for all: it is a part of the code's description, as a stream's passes are.
        rank = uniform(seed, PASSES, t, torch.zeros(1, dtype=torch.int64), places)[0].argsort().argsort()
        known, left = torch.zeros(places, dtype=torch.bool), torch.tensor([places])
        for step in range(passes):
            if not left.item():
                break
            left = left_after(way, step, passes, torch.tensor([places]), left)
            now = (rank < places - int(left)) & ~known
            bits += _pass(view, frame, known, now, every).cpu()
            known |= now
        if t + 1 < groups.shape[1]:
            view.advance(frame)
    return bits


def _pass(view: View, frame: Tensor, known: Tensor, now: Tensor, every: Tensor) -> Tensor:
    """Bits of the places `now` (M,) of a frame (B, h, w, G) given those `known`."""
    shape = frame.shape[1:]
    hidden = view.look(frame, known.view(shape).to(frame.device).expand_as(frame), None, every)
    bits = torch.zeros(len(frame), dtype=torch.float64, device=frame.device)
    for g in range(shape[-1]):
        tokens = now.view(-1, shape[-1])[:, g].nonzero()[:, 0].to(frame.device)
        log_p = view.network.head(hidden[:, tokens], g).float().log_softmax(-1)
        said = frame.flatten(1, 2)[:, tokens, g]
        bits -= log_p.gather(-1, said[..., None])[..., 0].double().sum(1) / math.log(2)
    return bits
