"""The course of the learning rate."""

from __future__ import annotations

import math

from src.training.recipes.recipe import Recipe


def learning_rate(recipe: Recipe, *, step: int, steps: int) -> float:
    """Returns the learning rate of a step (from 0) out of `steps`: warm-up, then the recipe's course to 0."""
    warmup = math.ceil(recipe.warmup_ratio * steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if recipe.lr_scheduler_type == "linear":
        return recipe.learning_rate * (1 - done)
    if recipe.lr_scheduler_type == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return recipe.learning_rate
