"""The folders of a run: what the system would refuse at the end is refused, or gone around, at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.training.run.folders import RunFolders, open_run_folders
from src.training.run.options import RunOptions
from src.training.run.output_place import Beside, InPlace


def open_folders(output: Path) -> RunFolders:
    return open_run_folders(RunOptions(output_dir=output), recipe_name="custom", fingerprint="a" * 64)


def test_a_link_leads_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    folders = open_folders(tmp_path / "out")
    assert folders.output == tmp_path / "there" and isinstance(folders.place, Beside)
    (folders.place.stage() / "config.json").touch()
    folders.place.commit()
    folders.lock.release()
    assert (tmp_path / "out" / "config.json").is_file() and (tmp_path / "out").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "there"}


def test_a_name_too_long_for_a_longer_one_beside_it_is_written_into(tmp_path: Path) -> None:
    output = tmp_path / ("n" * 241)
    folders = open_folders(output)
    assert isinstance(folders.place, InPlace)
    (folders.place.stage() / "config.json").touch()
    folders.place.commit()
    folders.lock.release()
    assert [*tmp_path.iterdir()] == [output] and [path.name for path in output.iterdir()] == ["config.json"]


@pytest.mark.parametrize("output", ["n" * 256, "file/out"])
def test_what_the_system_refuses_is_a_wrong_request(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"--output_dir .* cannot be written to \(.*\): name another folder"):
        open_folders(tmp_path / output)


@pytest.mark.parametrize("long", [False, True])
def test_a_second_run_is_refused_wherever_the_lock_is(long: bool, tmp_path: Path) -> None:
    output = tmp_path / ("n" * 241 if long else "out")
    folders = open_folders(output)
    with pytest.raises(RequestError, match="another run is at work on"):
        open_folders(output)
    folders.lock.release()
    open_folders(output).lock.release()
