"""A folder that cannot be renamed gets its files one by one, and never holds half of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.training.run import output_place
from src.training.run.artifact import check_output_folder, is_artifact
from src.training.run.output_place import Beside, InPlace

_NAMES = ("config.json", "metrics.json", "model.safetensors", "recipe.json", "tokenizer.json")


class Killed(BaseException):
    """The process ends here: nothing is cleaned up."""


def stage(place: InPlace, content: str, *more: str) -> None:
    folder = place.stage()
    for name in (*_NAMES, *more):
        (folder / name).write_text(content)


def contents(folder: Path) -> set[tuple[str, str]]:
    return {(path.name, path.read_text()) for path in folder.iterdir() if path.is_file()}


def whole(content: str, *more: str) -> set[tuple[str, str]]:
    return {(name, content) for name in (*_NAMES, *more)}


def commit_until(place: InPlace, kill_at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Commits, and ends at so many flushes, of which there is one after each change; returns whether it was killed."""
    flushes = 0

    def flush(_path: Path) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == kill_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(output_place, "flush", flush)
        try:
            place.commit()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("had_model", [False, True])
def test_killed_at_any_change_it_holds_the_old_model_or_the_new_one_or_none(
    had_model: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at, instants = 0, set()
    is_killed = True
    while is_killed:
        kill_at += 1
        final = tmp_path / str(kill_at)
        (final / "lost+found").mkdir(parents=True)
        if had_model:
            stage(InPlace(final), "old", "old.only")
            InPlace(final).commit()
        stage(InPlace(final), "new")
        is_killed = commit_until(InPlace(final), kill_at, monkeypatch)
        found = contents(final)
        if is_artifact(final):
            assert found in (whole("old", "old.only"), whole("new"))
        elif (final / "config.json").exists():
            # transformers would load it.
            assert {content for _, content in found} in ({"old"}, {"new"})
            assert {"model.safetensors", "tokenizer.json"} <= {name for name, _ in found}
        instants.add(frozenset(found))
        # The next run is not refused, and finds the new model.
        check_output_folder(final, overwrite=False)
        place = InPlace(final)
        place.recover()
        place.leave()
        assert contents(final) == whole("new")
        assert {path.name for path in final.iterdir() if path.is_dir()} == {"lost+found"}
    assert len(instants) > 5, "the kills were to come at many instants"


def test_a_folder_with_anything_else_in_it_is_still_refused(tmp_path: Path) -> None:
    stage(InPlace(tmp_path), "new")
    check_output_folder(tmp_path, overwrite=False)
    (tmp_path / "notes").write_text("dear to me")
    with pytest.raises(Exception, match="already holds something else"):
        check_output_folder(tmp_path, overwrite=True)


@pytest.mark.parametrize(("name", "exists"), [("out", False), ("out", True), ("n" * 238, False), ("n" * 238, True)])
def test_a_usual_folder_can_be_renamed_and_is_as_it_was(name: str, exists: bool, tmp_path: Path) -> None:
    final = tmp_path / name
    if exists:
        final.mkdir()
        (final / "file").touch()
    before = final.stat() if exists else None
    assert Beside(final).is_possible()
    assert [path.name for path in tmp_path.iterdir()] == [name] * exists
    assert before is None or final.stat() == before


@pytest.mark.parametrize("exists", [False, True])
def test_beside_a_long_name_there_is_no_room_for_a_longer_one(exists: bool, tmp_path: Path) -> None:
    final = tmp_path / ("n" * 241)
    if exists:
        final.mkdir()
    assert not Beside(final).is_possible()
    assert [*tmp_path.iterdir()] == [final] * exists
