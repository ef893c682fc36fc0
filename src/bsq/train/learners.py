"""Which weights learn. What enters: a tokenizer and a recipe's `learns`. What leaves: the others, held still."""

from __future__ import annotations

from bsq.tokenizer import Tokenizer
from bsq.train.recipe import Recipe


def choose_learners(tokenizer: Tokenizer, recipe: Recipe) -> None:
    """Hold still what does not learn: with learns=decoder all that gives codes their meaning (`code_hash`)."""
    if recipe.learns == "decoder":
        tokenizer.encoder.requires_grad_(False)
        tokenizer.quantizer.requires_grad_(False)
