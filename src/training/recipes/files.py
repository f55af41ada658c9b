"""Recipe files: those that ship, and users' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean

RECIPES = Path(__file__).resolve().parent


class _Loader(yaml.SafeLoader):
    """Reads only true and false as booleans: in YAML 1.1 `reproducible: off` would be one too."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shipped_recipes() -> list[str]:
    """Returns the names of the recipes in recipes/."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_recipe(name: str, *, folder: Path) -> dict[str, Any]:
    """Returns the raw fields of a shipped recipe or of a .yaml or .json file.

    Args:
        name: a name out of `shipped_recipes()`, or a path.
        folder: what a relative path is relative to.

    Raises:
        RequestError: there is no such recipe, or the file is not a mapping.
    """
    if name in shipped_recipes():
        path = RECIPES / f"{name}.yaml"
    elif name.endswith((".yaml", ".yml", ".json")):
        path = folder / name
    else:
        raise RequestError(
            f"there is no recipe {name!r}{did_you_mean(name, shipped_recipes())}: "
            f"choose one of {', '.join(shipped_recipes())}, or give the path of a .yaml file"
        )
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise RequestError(f"the recipe {path} cannot be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"the recipe {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise RequestError(f"the recipe {path} must hold `key: value` lines")
    return {str(key): value for key, value in fields.items()}
