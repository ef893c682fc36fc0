"""`bsq generate`: new pictures, and pictures in part made anew. What enters: a class, a picture, options. What leaves:
a picture, a grid of pictures, or the samples in an .npz for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bsq.cli.failures import say
from bsq.errors import MediaError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bsq.generate.edit import Editor
    from bsq.generate.sampler import SamplerSettings

PORTION = 16
COUNT = 16
"""New pictures, where nobody says how many."""
EPILOG = """
**Examples**

`bsq generate --class airplanes --n 16 --steps 24 --guidance 3 --seed 0 -o grid.png`

`bsq generate --generator runs/mine/model --n 5000 -o samples.npz` · every class in turn, for evaluation (ADM's format)

`bsq generate --edit photo.png --mask mask.png -o again.png` · make anew what is white in the mask; a generator with
learned positions takes pictures of its own size, the bundled one 112×80

`bsq generate --edit photo.png --class watch --share 0.7 -o watch.png` · forget 70 % of the tokens, make them a watch's

`bsq generate --repair damaged.bsq -o whole.png` · a stream that lost some of its tokens
"""


class ScheduleChoice(StrEnum):
    cosine = "cosine"
    arccos = "arccos"
    linear = "linear"


class OrderChoice(StrEnum):
    confidence = "confidence"
    halton = "halton"
    random = "random"


class RampChoice(StrEnum):
    constant = "constant"
    linear = "linear"
    power_cosine = "power-cosine"
    interval = "interval"


Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A picture's name, or one in .npz.")]
GeneratorName = Annotated[
    str, typer.Option("--generator", "--system", help="Folder or hub id of a generator, or a bundled model's name.")
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Its tokenizer; default: where it was trained with it.")
]
ClassName = Annotated[str | None, typer.Option("--class", help="Name or number of a class; default: each in turn.")]
Count = Annotated[int | None, typer.Option("--n", "-n", min=1, help="How many; default: 16.")]
Steps = Annotated[int, typer.Option("--steps", help="Looks of the network at a picture.")]
Schedule = Annotated[ScheduleChoice, typer.Option("--schedule", help="How many tokens each step settles.")]
Order = Annotated[OrderChoice, typer.Option("--order", help="Which digits come first.")]
ChoiceTemperature = Annotated[
    float | None, typer.Option("--choice-temperature", help="Noise on the confidence; default: 4.5.")
]
Temperature = Annotated[float, typer.Option("--temperature", help="Of the values.")]
Guidance = Annotated[float, typer.Option("--guidance", help="Weight of the class; 0: as the model has it.")]
Ramp = Annotated[RampChoice, typer.Option("--ramp", help="How the weight rises; interval: in the second half alone.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the draws.")]
First = Annotated[int, typer.Option("--first", min=0, help="Number of the first sample of the seed.")]
Edit = Annotated[str | None, typer.Option("--edit", metavar="PICTURE", help="Make a part of it anew.")]
Mask = Annotated[str | None, typer.Option("--mask", metavar="PICTURE", help="White: make anew.")]
Grow = Annotated[int | None, typer.Option("--grow", help="Tokens more on each side.")]
Share = Annotated[float | None, typer.Option("--share", help="Share of tokens to forget.")]
Repair = Annotated[str | None, typer.Option("--repair", metavar="STREAM", help="A damaged .bsq.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps …")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace FILE.")]


def generate(
    output: Output = Path("generated.png"),
    system: GeneratorName = "biscuit-s",
    model: Model = None,
    label: ClassName = None,
    count: Count = None,
    steps: Steps = 12,
    schedule: Schedule = ScheduleChoice.cosine,
    order: Order = OrderChoice.confidence,
    noise: ChoiceTemperature = None,
    temperature: Temperature = 1.0,
    guidance: Guidance = 2.0,
    ramp: Ramp = RampChoice.linear,
    seed: Seed = 0,
    first: First = 0,
    edit: Edit = None,
    mask: Mask = None,
    grow: Grow = None,
    share: Share = None,
    damaged: Repair = None,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Make new pictures with a generator, or a part of one."""
    import numpy as np

    from bsq.checkpoint import load
    from bsq.cli.options import choose_device
    from bsq.generate.classes import class_number
    from bsq.generate.edit import Editor
    from bsq.generate.folder import load_generator

    settings = sampler_settings(steps, schedule, order, noise, temperature, guidance, ramp)
    way = mask, grow, share
    check_request(edit, damaged, way, count)
    check_output(output, force, edit is not None or damaged is not None)
    device = choose_device(device)
    trained = load_generator(system, device)
    tokenizer = load(model or (system if trained.card.tokenizer == system else trained.card.tokenizer), device)
    editor = Editor(trained, tokenizer, settings)
    number = None if label is None else class_number(trained.card.class_names, label)
    if damaged is not None:
        made = repaired(editor, Path(damaged), number, seed)
    elif edit is not None:
        made = edited(editor, edit, way, number, (seed, first))
    else:
        numbers = classes_asked(editor, number, count or COUNT, first)
        parts = sampled(editor, numbers, seed, first)
        if output.suffix == ".npz":
            write_npz(output, parts, numbers.repeat_interleave(editor.network.settings.grid[0]), force)
            return
        made = np.concatenate(list(parts))
    write_picture(output, made, force)


def sampler_settings(
    steps: int,
    schedule: ScheduleChoice,
    order: OrderChoice,
    noise: float | None,
    temperature: float,
    guidance: float,
    ramp: RampChoice,
) -> SamplerSettings:
    """Errors of settings are the user's."""
    from bsq.generate.sampler import SamplerSettings

    chosen: dict[str, object] = {"kind": order.value}
    if noise is not None:
        if order is not OrderChoice.confidence:
            raise SettingsError(f"--choice-temperature is of --order confidence; {order.value} looks at none")
        chosen["choice_temperature"] = noise
    return SamplerSettings.model_validate(
        {
            "steps": steps,
            "schedule": schedule.value,
            "temperature": temperature,
            "order": chosen,
            "guidance": {"kind": ramp.value, "weight": guidance},
        }
    )


def check_request(
    edit: str | None, damaged: str | None, way: tuple[str | None, int | None, float | None], count: int | None
) -> None:
    """Raises SettingsError for options that would say nothing beside the others."""
    if edit is None and any(one is not None for one in way):
        raise SettingsError("--mask, --grow and --share change a picture; name it: --edit PICTURE")
    if edit is not None and damaged is not None:
        raise SettingsError("--edit and --repair are two requests; give one of them")
    if (edit is not None or damaged is not None) and count is not None:
        raise SettingsError("--n counts new pictures; --edit and --repair give one")


def check_output(output: Path, force: bool, is_edit: bool) -> None:
    """Say so before the work is done."""
    from bsq.data.pictures import check_format

    if output.suffix != ".npz":
        check_format(output.suffix)
    elif is_edit:
        raise SettingsError("an .npz holds many samples; an edited picture goes into a picture's file")
    if output.is_file() and not force:
        raise MediaError(f"{output} exists already; -f replaces it, -o names another")


def classes_asked(editor: Editor, number: int | None, count: int, first: int) -> torch.Tensor:
    """int64 (count,)."""
    import torch

    known = editor.network.settings.classes
    return (torch.arange(first, first + count) % max(1, known)) if number is None else torch.full((count,), number)


def sampled(editor: Editor, numbers: torch.Tensor, seed: int, first: int) -> Iterator[np.ndarray]:
    """Parts uint8 (n, H, W, 3) of the samples of classes `numbers`."""
    with bar(len(numbers)) as tell:
        for start in range(0, len(numbers), PORTION):
            part = numbers[start : start + PORTION]

            def looked(done: int, total: int, start: int = start, size: int = len(part)) -> None:
                tell(start + size * done / total)

            codes = editor.sampler.sample(part, seed, first + start, looked)
            yield as_pictures(editor.tokenizer.decode(codes))


def edited(
    editor: Editor,
    name: str,
    way: tuple[str | None, int | None, float | None],
    number: int | None,
    draw: tuple[int, int],
) -> np.ndarray:
    """A picture with a part made anew, (N, H, W, 3). Raises SettingsError unless exactly one way is chosen."""
    import torch

    from bsq.data.pictures import open_picture, to_pixels

    mask, grow, share = way
    if sum(one is not None for one in way) != 1:
        raise SettingsError("say what to make anew: --mask PICTURE, --grow TOKENS or --share SHARE, one of them")
    pixels, how = to_pixels(open_picture(name)), {"seed": draw[0], "first": draw[1]}
    if mask is not None:
        white = torch.from_numpy(open_picture(mask).mean(-1) > 127)
        made = editor.inpaint(pixels, white, number, **how)
    elif grow is not None:
        made = editor.outpaint(pixels, (grow,) * 4, number, **how)
    else:
        assert share is not None
        if number is None:
            raise SettingsError("--share changes a picture into another class; name it: --class NAME")
        made = editor.change(pixels, number, share, **how)
    say(f"made {int(made.made.sum())} of {made.made.numel()} tokens")
    height, width = pixels.shape[-2:]
    whole = made.pixels(editor.tokenizer)
    return as_pictures(whole if grow is not None else whole[..., :height, :width])


def repaired(editor: Editor, damaged: Path, number: int | None, seed: int) -> np.ndarray:
    """What a damaged stream held, the rest made anew, (N, H, W, 3)."""
    from bsq.cli.plan import read
    from bsq.codec.picture import show
    from bsq.codec.shelf import priors_for
    from bsq.codec.stream import check_tokenizer, read_available
    from bsq.generate.repair import repair

    stream = read_available(read(damaged), priors_for(editor.tokenizer))
    check_tokenizer(stream.info, editor.tokenizer.code_hash)
    partial = repair(stream, editor, number, seed)
    known, missing = int(stream.known.sum()), int(stream.missing.sum())
    say(f"{known / (known + missing):.1%} of the digits were there")
    return show(editor.tokenizer, stream.info, partial.codes, partial.kept)[None]


def as_pictures(pixels: torch.Tensor) -> np.ndarray:
    """(B, 3, T, H, W) → uint8 (B·T, H, W, 3)."""
    levels = ((pixels.transpose(1, 2).flatten(0, 1) + 1) * 127.5).round().clamp(0, 255)
    return levels.byte().permute(0, 2, 3, 1).cpu().numpy()


def write_npz(output: Path, parts: Iterator[np.ndarray], labels: torch.Tensor, force: bool) -> None:
    """As ADM's evaluation reads it: arr_0 uint8 (n, H, W, 3), arr_1 the classes; no more than a part is in memory."""
    from bsq.data.files import Existing
    from bsq.evaluate.npz import write_samples

    pictures = (picture for part in parts for picture in part)
    existing = Existing.REPLACE if force else Existing.REFUSE
    write_samples(output, pictures, len(labels), existing=existing, labels=labels.tolist())
    say(f"{len(labels)} samples → {output}")


def write_picture(output: Path, pictures: np.ndarray, force: bool) -> None:
    """One picture as it is, several as a square."""
    import numpy as np

    from bsq.data.files import Existing
    from bsq.data.pictures import save_picture

    columns = max(1, round(len(pictures) ** 0.5 + 0.499))
    blank = np.full_like(pictures[:1], 255)
    whole = np.concatenate([pictures, *[blank] * (-len(pictures) % columns)])
    rows = [np.concatenate(list(whole[start : start + columns]), 1) for start in range(0, len(whole), columns)]
    save_picture(output, np.concatenate(rows), Existing.REPLACE if force else Existing.REFUSE)
    say(f"{len(pictures)} pictures → {output}")


@contextmanager
def bar(total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal; is told how many are done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("generating", total=total)
        yield lambda done: progress.update(task, completed=done)
