"""What an executor may return of a language model: its adapter too, by exact name."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.remote.results.allowed_files import check_allowed, check_weights


@pytest.mark.parametrize("name", ["", "adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_may_be_returned(name: str) -> None:
    check_allowed(f"model/adapter/{name}", size=100)


@pytest.mark.parametrize(
    "name", ["model/adapter/BUILD", "model/adapter/adapter_model.bin", "adapter/", "model/adapter_model.safetensors"]
)
def test_nothing_else_may(name: str) -> None:
    with pytest.raises(RequestError, match="no file of a model"):
        check_allowed(name, size=100)


def test_an_adapter_is_not_larger_than_the_model(tmp_path: Path) -> None:
    for folder, size in (("base", 100), ("model/adapter", 65 << 20)):
        (tmp_path / folder).mkdir(parents=True)
        with (tmp_path / folder / "adapter_model.safetensors").open("wb") as file:
            file.truncate(size)
    with pytest.raises(RequestError, match="the weights in adapter have"):
        check_weights(tmp_path / "model", base=tmp_path / "base")
