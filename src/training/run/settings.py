"""What of a recipe each part below takes."""

from __future__ import annotations

import dataclasses

from src.training.engine.early_stopping import EarlyStopping
from src.training.engine.settings import TrainingSettings
from src.training.recipes.recipe import Recipe


def training_settings(recipe: Recipe) -> TrainingSettings:
    """Returns what decides how the weights are trained."""
    return TrainingSettings(
        **{field.name: getattr(recipe, field.name) for field in dataclasses.fields(TrainingSettings)}
    )


def early_stopping(recipe: Recipe) -> EarlyStopping:
    """Returns when training ends before its last epoch."""
    return EarlyStopping(patience=recipe.early_stopping_patience, threshold=recipe.early_stopping_threshold)
