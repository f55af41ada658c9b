"""The output folder: whose it is, and that it appears whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.disk.durable import canonical_json
from src.training.run.artifact import check_output_folder
from src.training.run.output_place import Beside


def model(folder: Path, fingerprint: str = "a") -> Path:
    """Writes what a whole model of this project is known by."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"fingerprint": fingerprint}))
    (folder / "metrics.json").write_text("{}")
    (folder / "model.safetensors").write_text(fingerprint)
    return folder


def adapter(folder: Path) -> Path:
    """Writes a language model of which only the adapter is kept."""
    model(folder)
    (folder / "adapter").mkdir()
    (folder / "model.safetensors").rename(folder / "adapter" / "adapter_model.safetensors")
    return folder


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def umask() -> Iterator[int]:
    """A umask that lets the group write and others do nothing."""
    old = os.umask(0o007)
    yield 0o007
    os.umask(old)


def test_a_new_and_an_empty_folder_are_free(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new" / "out", overwrite=False, fingerprint="a")
    check_output_folder(tmp_path, overwrite=False, fingerprint="a")


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RequestError, match="is not a folder"):
        check_output_folder(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("missing", ["recipe.json", "metrics.json", "model.safetensors"])
def test_a_folder_that_holds_anything_else_is_refused_even_with_overwrite(tmp_path: Path, missing: str) -> None:
    (model(tmp_path) / missing).unlink()
    with pytest.raises(RequestError, match="already holds something else"):
        check_output_folder(tmp_path, overwrite=True, fingerprint="a")


@pytest.mark.parametrize("write", [model, adapter])
def test_a_model_of_the_same_recipe_may_be_replaced(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    check_output_folder(write(tmp_path), overwrite=False, fingerprint="a")


def test_a_model_of_another_recipe_is_refused_unless_overwrite_is_asked_for(tmp_path: Path) -> None:
    model(tmp_path, "b")
    with pytest.raises(RequestError, match="model of another recipe"):
        check_output_folder(tmp_path, overwrite=False, fingerprint="a")
    check_output_folder(tmp_path, overwrite=True, fingerprint="a")
    # Before the data are read only what is no model can be refused.
    check_output_folder(tmp_path, overwrite=False)


def test_nothing_stands_under_the_final_name_before_the_commit(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out"
    staging = model(Beside(final).stage())
    assert (final.exists(), staging.parent) == (False, final.parent)
    Beside(final).commit()
    assert (final / "model.safetensors").read_text() == "a"
    assert [path.name for path in final.parent.iterdir()] == ["out"]


def test_a_commit_replaces_an_older_model_whole(tmp_path: Path) -> None:
    final = model(tmp_path / "out", "old")
    (final / "left.over").write_text("")
    model(Beside(final).stage(), "new")
    assert (final / "model.safetensors").read_text() == "old"
    Beside(final).commit()
    assert (final / "model.safetensors").read_text() == "new"
    assert not (final / "left.over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_commit_into_an_empty_folder_works(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    model(Beside(tmp_path / "out").stage())
    Beside(tmp_path / "out").commit()
    assert (tmp_path / "out" / "recipe.json").is_file()


def test_files_and_folders_have_the_modes_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    staging = adapter(Beside(tmp_path / "out").stage())
    # As safetensors leaves it.
    (staging / "adapter" / "adapter_model.safetensors").chmod(0o600)
    Beside(tmp_path / "out").commit()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o666 & ~umask}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o777 & ~umask}
    assert os.umask(umask) == umask


def test_what_a_dead_process_staged_is_removed_and_that_of_a_living_one_stays(tmp_path: Path, dead: int) -> None:
    for process in (dead, os.getppid()):
        model(tmp_path / f".out.partial-{process}")
    staging = Beside(tmp_path / "out").stage()
    assert {path.name for path in tmp_path.iterdir()} == {f".out.partial-{os.getppid()}", staging.name}


def test_what_this_process_staged_before_is_gone(tmp_path: Path) -> None:
    model(Beside(tmp_path / "out").stage())
    assert list(Beside(tmp_path / "out").stage().iterdir()) == []
    Beside(tmp_path / "out").clear()
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_a_dead_process_had_retired_is_put_back(tmp_path: Path, dead: int) -> None:
    model(tmp_path / f".out.retired-{dead}", "old")
    Beside(tmp_path / "out").stage()
    assert (tmp_path / "out" / "model.safetensors").read_text() == "old"


def test_a_retired_model_whose_successor_is_there_is_removed(tmp_path: Path, dead: int) -> None:
    model(tmp_path / f".out.retired-{dead}", "old")
    model(tmp_path / "out", "new")
    Beside(tmp_path / "out").stage()
    assert (tmp_path / "out" / "model.safetensors").read_text() == "new"
    assert not (tmp_path / f".out.retired-{dead}").exists()


def test_leftovers_of_a_folder_with_brackets_in_its_name_are_removed(tmp_path: Path, dead: int) -> None:
    model(tmp_path / f".out[1].partial-{dead}")
    Beside(tmp_path / "out[1]").stage()
    assert not (tmp_path / f".out[1].partial-{dead}").exists()


def test_a_users_own_hidden_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".out.notes-old").write_text("dear to me")
    Beside(tmp_path / "out").stage()
    assert (tmp_path / ".out.notes-old").read_text() == "dear to me"


def test_canonical_json_is_the_same_text_for_the_same_content() -> None:
    assert canonical_json({"b": 1, "a": "ü"}) == canonical_json({"a": "ü", "b": 1}) == '{\n  "a": "ü",\n  "b": 1\n}\n'
