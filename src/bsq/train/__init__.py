"""Training. What enters: a recipe. What leaves: a folder with a model, checkpoints and logs (`loop` names them)."""

from bsq.train.generator_recipe import GeneratorRecipe
from bsq.train.loop import End, RunResult, Start, run
from bsq.train.plan import Plan, plan_run
from bsq.train.recipe import Recipe, load_recipe, write_recipe

__all__ = [
    "End",
    "GeneratorRecipe",
    "Plan",
    "Recipe",
    "RunResult",
    "Start",
    "load_recipe",
    "plan_run",
    "run",
    "write_recipe",
]
