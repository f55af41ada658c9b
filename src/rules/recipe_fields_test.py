"""What the rule knows of recipes at analysis is what the programs know."""

from __future__ import annotations

import ast
from pathlib import Path

from src.training.data.files import FILE_KINDS
from src.training.embedded.locate import MODELS, PREFIX
from src.training.recipes.files import shipped_recipes
from src.training.recipes.recipe import FIELDS

TABLE = Path(__file__).with_name("recipe_fields.bzl")


def test_the_table_is_in_step_with_the_code() -> None:
    found = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in ast.parse(TABLE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
    }
    assert found == {
        "DATA_FILES": sorted(FILE_KINDS),
        "EMBEDDED_MODELS": sorted(PREFIX + name for name in MODELS),
        "FIELDS": sorted(FIELDS),
        "SHIPPED_RECIPES": shipped_recipes(),
    }
