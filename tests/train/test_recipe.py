"""Recipes: overrides, bases, faults, and that what is written back is the same recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from runs import tiny

from bsq.checkpoint import load
from bsq.errors import SettingsError
from bsq.losses.discriminators import PatchSettings, build_discriminator
from bsq.train.plan import plan_run
from bsq.train.recipe import Recipe, load_recipe, merge, write_recipe
from bsq.train.trainer import build_tokenizer

FOLDER = Path(__file__).parent.parent.parent / "recipes"
RECIPES = sorted(FOLDER.glob("**/*.yaml"))


def sources_for(path: Path) -> list[str]:
    """Recipes name no data, but for those that read tokens: these say what wrote them."""
    if (yaml.safe_load(path.read_text()).get("data") or {}).get("kind") == "tokens":
        return []
    pictures, clips = "data.source=pictures", "data.clips.source=videos"
    if path.stem.startswith(("ucf101", "video-")):
        return [clips]
    with_clips = [
        f"biscuit-s-{run}"
        for run in ("video", "dial", "structure", "colour", "deeper", "refined", "recolour", "perceptual")
    ]
    return [pictures, clips] if path.stem in with_clips else [pictures]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_sound(path: Path) -> None:
    recipe = load_recipe(path, sources_for(path))
    assert path.parent.name != "paper" or "arXiv:" in path.read_text().splitlines()[0]
    assert recipe.steps > recipe.steps_in(recipe.log_every)


OF_THE_BUNDLED = [path for path in RECIPES if re.fullmatch(r"biscuit-s(-(?!generator)\w+)?", path.stem)]


@pytest.mark.parametrize("path", OF_THE_BUNDLED, ids=lambda path: path.stem)
def test_recipes_of_the_bundled_model_go_on_from_it(path: Path) -> None:
    recipe = load_recipe(path, [*sources_for(path), "initial=biscuit-s"])
    assert isinstance(recipe, Recipe)
    bundled, begun = load("biscuit-s"), build_tokenizer(recipe)
    assert all(tensor.equal(bundled.state_dict()[name]) for name, tensor in begun.state_dict().items())


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.parent.name == "paper" else ())
        for path in RECIPES
    ],
)
def test_every_recipe_can_be_planned(path: Path) -> None:
    plan = plan_run(load_recipe(path, sources_for(path)))
    assert plan.parameters > 0
    assert plan.flops > 2 * plan.parameters
    assert plan.activation_bytes > 0
    assert plan.steps > 0
    assert len(plan.lines()) == 5


def test_recomputing_saves_memory() -> None:
    path = FOLDER / "tiny.yaml"
    plain, saving = (plan_run(load_recipe(path, ["data.source=x", f"recompute={flag}"])) for flag in (False, True))
    assert saving.activation_bytes < plain.activation_bytes
    assert saving.flops > plain.flops


def test_a_plan_counts_the_discriminator_and_names_what_it_leaves_out() -> None:
    judge = "loss.adversarial={kind: adversarial, discriminator: {kind: patch, width: 16, layers: 3}}"
    path = FOLDER / "tiny.yaml"
    plain, judged = (
        plan_run(load_recipe(path, ["data.source=x", *more])) for more in ([], [judge, "loss.perceptual={kind: lpips}"])
    )
    weights = build_discriminator(PatchSettings(width=16, layers=3)).parameters()
    assert judged.state_bytes - plain.state_bytes == 16 * sum(p.numel() for p in weights)
    assert not any("without" in line for line in plain.lines())
    assert sum("without discriminator and LPIPS" in line for line in judged.lines()) == 2


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(write_recipe(tiny(tmp_path)))
    return path


def test_reads_back_what_it_writes(recipe: Path, tmp_path: Path) -> None:
    assert load_recipe(recipe) == tiny(tmp_path)


def test_overrides_are_dotted_yaml(recipe: Path) -> None:
    changed = load_recipe(
        recipe, ["model.encoder.width=384", "data.zoom=[1, 3]", "nested=null", "optimizer={kind: adamw}", "compile=off"]
    )
    assert changed.model.encoder.width == 384
    assert changed.data.zoom == (1.0, 3.0)
    assert changed.nested is None
    assert changed.optimizer.kind == "adamw"
    assert changed.compile == "off"


def test_another_kind_replaces_all_settings_of_the_kind_before() -> None:
    under = {"quantizer": {"kind": "bsq", "bits": 9, "group": 3}, "patch": 8}
    assert merge(under, {"quantizer": {"bits": 18}})["quantizer"] == {"kind": "bsq", "bits": 18, "group": 3}
    assert merge(under, {"quantizer": {"kind": "lfq"}})["quantizer"] == {"kind": "lfq"}


def test_a_base_is_relative_to_its_recipe(recipe: Path) -> None:
    (recipe.parent / "rows").mkdir()
    row = recipe.parent / "rows" / "row.yaml"
    row.write_text("base: ../recipe.yaml\nseed: 3\nmodel: {quantizer: {bits: 16}}\n")
    changed = load_recipe(row)
    assert (changed.seed, changed.model.quantizer.bits, changed.model.patch) == (3, 16, 8)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.encoder.widht=3", "model.encoder.widht"),
        ("modle.patch=8", "modle"),
        ("batch=0", "batch"),
        ("batch=100", "less than one batch"),
        ("optimizer={kind: schedule_free}", "needs schedule.floor=1"),
        ("data.crop=30", "data.crop=30"),
        ("micro_batch=3", "micro_batch=3"),
        ("nested.choices=[4,99]", "nested.choices"),
        ("loss.adversarial={kind: adversarial}", "resolution=256 is not data.crop=32"),
        ("loss.adversarial={kind: adversarial, discriminator: {kind: patch, layers: 4}}", "at least 48, got 32"),
        (
            "loss.adversarial={kind: adversarial, discriminator: {kind: stylegan2_clip, resolution: 32, frames: 1}}",
            "and no pictures",
        ),
        ("data.zoom=[2,1]", "zoom must rise"),
        ("loss.reconstruction={l1: 0}", "loss.reconstruction"),
        ("batch", "reads like"),
        ("=3", "reads like"),
        ("batch=[", "not YAML"),
    ],
)
def test_faults_are_named(recipe: Path, override: str, named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_recipe(recipe, [override])
    said = str(raised.value).removeprefix(f"{recipe} with {override}: ")
    assert named in said
    assert "Value error" not in said


def test_data_must_be_named() -> None:
    with pytest.raises(SettingsError, match=r"data\.source"):
        load_recipe(FOLDER / "biscuit-s.yaml")


def test_what_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_recipe(tmp_path / "missing.yaml")
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump([1, 2]))
    with pytest.raises(SettingsError, match="settings by name"):
        load_recipe(path)
    path.write_text("a: [")
    with pytest.raises(SettingsError, match="not YAML"):
        load_recipe(path)


def test_a_codebook_that_moves_in_the_forward_pass_is_not_sharded(recipe: Path) -> None:
    learned = "model.quantizer={kind: vq, size: 8, width: 4, update: gradient, revive_below: 0.1}"
    with pytest.raises(SettingsError, match="revive_below=0"):
        load_recipe(recipe, ["nested=null", learned, "parallel=fsdp"])
    assert load_recipe(recipe, ["nested=null", learned, "parallel=fsdp", "model.quantizer.revive_below=0"])


@pytest.mark.parametrize(("base", "words"), [("recipe.yaml", "is its own base"), (5, "base must be the path")])
def test_a_base_that_is_none(tmp_path: Path, base: object, words: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"base: {base}\n")
    with pytest.raises(SettingsError, match=words):
        load_recipe(tmp_path / "recipe.yaml")
