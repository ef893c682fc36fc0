"""Generated pictures beside real ones. What enters: samples, references. What leaves: the measures of guided-diffusion.

FID, sFID, inception score, precision, recall and KID, as far as the feature network gives what they need and there are
pictures enough; what is left out is named. Samples and references are folders, tars or `.npz` files of one size; an
`.npz` of moments alone can be a reference, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from bsq.data.stored import Kind
from bsq.data.streams import Refused
from bsq.errors import DataError, SettingsError, ShapeError
from bsq.evaluate.data import UNREADABLE, Samples, open_samples
from bsq.evaluate.networks import checked_device, open_features
from bsq.evaluate.npz import PICTURES, has_moments, read_header, read_network
from bsq.evaluate.processes import device_of, measure
from bsq.evaluate.protocols import PROTOCOLS, Protocol
from bsq.evaluate.run import evenly, threads
from bsq.evaluate.share import as_pixels
from bsq.metrics.distribution import FROM_MOMENTS, DistributionMeter, DistributionScores, Measure
from bsq.metrics.features import FeatureNetwork
from bsq.metrics.inception_score import SPLITS
from bsq.metrics.manifold import NEIGHBOURS
from bsq.metrics.sets import FeatureSet
from bsq.settings import Settings

UNNAMED = ("adm", "inception")
"""Moments that do not name their network are guided-diffusion's or pytorch-fid's, of Inception."""


class GenerationSettings(Settings):
    """`samples`: sets of generated pictures, "NAME=PATH" or a path; `reference`: real ones, or their moments; `first`:
    only so many of every set, and of the real ones.
    """

    samples: tuple[str, ...] = Field(min_length=1)
    reference: str
    protocol: Protocol = PROTOCOLS["adm"]
    features: str = "squeeze"
    first: PositiveInt | None = None
    shown: NonNegativeInt = 6
    processes: PositiveInt = 1
    threads: PositiveInt = 1
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class SetScores:
    """One set of samples: its name, its scores, and some of its pictures."""

    name: str
    scores: DistributionScores
    shown: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Generation:
    """Everything that was measured; `left_out` names measures and why."""

    settings: GenerationSettings
    sets: tuple[SetScores, ...]
    references: tuple[np.ndarray, ...]
    left_out: tuple[str, ...]
    refused: tuple[Refused, ...]


@dataclass
class Seen:
    """The features that a process has seen: arrays alone, since tensors cannot outlive the process that sends them."""

    references: FeatureSet
    sets: dict[str, FeatureSet]
    refused: list[Refused] = field(default_factory=list)

    def merge(self, other: Seen) -> None:
        self.references.merge(other.references)
        for name, features in other.sets.items():
            self.sets[name].merge(features)
        self.refused += other.refused


def evaluate_generation(
    settings: GenerationSettings, on_sample: Callable[[int, int], None] = lambda done, total: None
) -> Generation:
    """Raises DataError for sets with less than two pictures, ShapeError for pictures of several sizes, SettingsError
    for moments of another network.
    """
    checked_device(settings.device)
    network = open_features(settings.features, settings.device)
    if network is None:
        raise SettingsError("generated pictures are measured by their features; choose a network with --features")
    sets = {name: open_set(settings, path) for name, path in named_sets(settings.samples).items()}
    references = open_references(settings)
    if references is None:
        check_moments(settings, network)
    check_sizes(sets, references)
    measures, left_out = choose(settings, network, sets, references)
    total = sum(map(len, sets.values())) + (0 if references is None else len(references))
    seen = measure(GenerationWork(settings, measures), settings.processes, total, on_sample)
    scored = []
    for name, samples in sets.items():
        meter = DistributionMeter(network, measures, "uint8", statistics_of(settings, references))
        meter.references.merge(seen.references)
        meter.samples.merge(seen.sets[name])
        scored.append(SetScores(name, meter.result(), some(samples, settings.shown)))
    return Generation(
        settings=settings,
        sets=tuple(scored),
        references=() if references is None else some(references, settings.shown),
        left_out=left_out,
        refused=tuple(sorted(seen.refused, key=str)),
    )


def statistics_of(settings: GenerationSettings, references: Samples | None) -> str | None:
    """The reference, where it is a file of moments alone."""
    return settings.reference if references is None else None


@dataclass(frozen=True)
class GenerationWork:
    """Process r of n takes pictures r, r + n, r + 2n … of every set."""

    settings: GenerationSettings
    measures: tuple[Measure, ...]

    def share(self, number: int, count: int, told: Callable[[], None]) -> Seen:
        settings = self.settings
        with threads(settings.threads):
            network = open_features(settings.features, device_of(settings.device, number))
            assert network is not None
            references = open_references(settings)
            statistics = statistics_of(settings, references)
            real = DistributionMeter(network, self.measures, "uint8", statistics)
            seen = Seen(real.references, {})
            if references is not None:
                numbers = range(number, len(references), count)
                feed(real.add_references, references, numbers, seen.refused, told)
            for name, path in named_sets(settings.samples).items():
                samples = open_set(settings, path)
                meter = DistributionMeter(network, self.measures, "uint8", statistics)
                feed(meter.add_samples, samples, range(number, len(samples), count), seen.refused, told)
                seen.sets[name] = meter.samples
        return seen


def feed(
    add: Callable[..., None],
    samples: Samples,
    numbers: Sequence[int],
    refused: list[Refused],
    told: Callable[[], None],
) -> None:
    """Gives pictures to a meter; those that cannot be read are named. Raises ShapeError for one of another size."""
    size = size_of(samples)
    for number in numbers:
        try:
            frames = samples.read(number)
        except UNREADABLE as error:
            refused.append(Refused(samples.name(number), str(error)))
        else:
            if frames.shape[1:3] != size:
                raise ShapeError(different_sizes(samples.name(number), frames.shape[1:3], "the first", size))
            add(as_pixels(frames)[:, :, 0])
        told()


def named_sets(samples: Sequence[str]) -> dict[str, str]:
    """Names and paths. Raises SettingsError for two of one name, and for one without a name or a path."""
    sets: dict[str, str] = {}
    for text in samples:
        name, sign, path = text.partition("=")
        if not sign or "/" in name:
            name, path = Path(text).name, text
        if not name or not path:
            raise SettingsError(f"a set of samples is a path, or NAME=PATH; got {text!r}")
        if name in sets:
            raise SettingsError(f"two sets of samples are called {name!r}; name them, as in a={path}")
        sets[name] = path
    return sets


def open_set(settings: GenerationSettings, path: str) -> Samples:
    return open_samples((path,), Kind.PICTURES, settings.protocol, settings.first)


def open_references(settings: GenerationSettings) -> Samples | None:
    """None for a file of moments alone. Pictures are preferred: then both sides go through one network."""
    path = Path(settings.reference)
    if path.suffix == ".npz" and read_header(path, PICTURES) is None:
        if not has_moments(path):
            raise DataError(f"{path.name} holds neither pictures ({PICTURES}) nor moments (mu and sigma)")
        return None
    return open_set(settings, settings.reference)


def check_moments(settings: GenerationSettings, network: FeatureNetwork) -> None:
    """Raises SettingsError where stored moments are of another network."""
    stored = read_network(Path(settings.reference))
    if stored is None and settings.features.partition(":")[0] not in UNNAMED:
        raise SettingsError(
            f"{Path(settings.reference).name} holds moments of Inception features; they need --features adm if "
            "guided-diffusion wrote them, --features inception if pytorch-fid did"
        )
    if stored is not None and stored != network.name:
        raise SettingsError(f"{Path(settings.reference).name} holds moments of {stored}, not of {network.name}")


def check_sizes(sets: dict[str, Samples], references: Samples | None) -> None:
    """Raises DataError for a set of less than two, ShapeError where samples and references differ in size."""
    for name, samples in (sets if references is None else sets | {"the reference": references}).items():
        if len(samples) < 2:
            raise DataError(f"{name} has {len(samples)} pictures; a Fréchet distance needs at least 2")
    if references is None:
        return
    wanted = size_of(references)
    for name, samples in sets.items():
        if (size := size_of(samples)) != wanted:
            raise ShapeError(different_sizes(name, size, "the reference", wanted))


def different_sizes(one: str, size: tuple[int, ...], other: str, wanted: tuple[int, ...]) -> str:
    return (
        f"{one} is {size[1]}×{size[0]}, {other} {wanted[1]}×{wanted[0]}; a protocol with a resize and a crop brings "
        "all to one size"
    )


def size_of(samples: Samples) -> tuple[int, ...]:
    """Height and width of the first picture that can be read. Raises DataError if none can."""
    return readable_one(samples).shape[1:3]


def choose(
    settings: GenerationSettings, network: FeatureNetwork, sets: dict[str, Samples], references: Samples | None
) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """The measures that can be taken, and why the others cannot."""
    first = next(iter(sets.values()))
    probe = network.pictures(as_pixels(readable_one(first))[:, :, 0])
    least = min(map(len, sets.values()))
    wanting: dict[Measure, str] = {}
    if probe.spatial is None:
        wanting["sfid"] = "sFID needs the spatial features of Inception"
    if probe.logits is None:
        wanting["inception score"] = "the inception score needs Inception's logits"
    elif least < SPLITS:
        wanting["inception score"] = f"the inception score needs {SPLITS} samples or more, got {least}"
    if min(least, least if references is None else len(references)) <= NEIGHBOURS:
        wanting["precision and recall"] = f"precision and recall need more than {NEIGHBOURS} pictures a set"
    measures: tuple[Measure, ...] = ("fid", "sfid", "inception score", "precision and recall", "kid")
    if references is None:
        told = "moments alone do not give precision, recall and KID"
        wanting |= {measure: told for measure in measures if measure not in FROM_MOMENTS}
        if read_header(Path(settings.reference), "mu_s") is None:
            wanting["sfid"] = "the reference holds no spatial moments for sFID"
    return tuple(one for one in measures if one not in wanting), tuple(dict.fromkeys(wanting.values()))


def readable_one(samples: Samples) -> np.ndarray:
    for number in range(len(samples)):
        try:
            return samples.read(number)
        except UNREADABLE:
            continue
    raise DataError(f"none of {len(samples)} pictures can be read, for example {samples.name(0)}")


def some(samples: Samples, count: int) -> tuple[np.ndarray, ...]:
    """Evenly spread ones, uint8 (H, W, 3), that can be read."""
    found = []
    for number in evenly(len(samples), count):
        try:
            found.append(samples.read(number)[0])
        except UNREADABLE:
            continue
    return tuple(found)
