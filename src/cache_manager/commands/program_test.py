"""Every command answers, as lines or as the JSON that scripts rely on, with the project's exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from src.cache_manager.commands.program import build_parser, run_command
from src.cache_manager.store.manifest import MANIFEST, seal_manifest
from src.cache_manager.store.store import Store
from src.cache_manager.testing.sample_entries import sample_key, sample_store, write_model_folder

FIRST, SECOND = sample_key(1), sample_key(2)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("FINETUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("FINETUNE_CACHE_MAX_SIZE", raising=False)
    return sample_store(tmp_path, seeds=[1, 2])


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run_command([*arguments, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run_command(list(arguments)) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


def test_ls_has_the_promised_fields(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.usage.pin(FIRST)
    found = {entry["key"]: entry for entry in answer(capsys, "ls")}
    assert found.keys() == {FIRST, SECOND}
    fields = ["key", "model_name", "revision", "size_bytes", "created", "last_used", "pinned", "state"]
    assert list(found[FIRST]) == fields
    assert found[FIRST]["model_name"] == "sample-1" and found[FIRST]["state"] == "ok"
    assert found[FIRST]["pinned"] is True and found[SECOND]["pinned"] is False
    assert found[FIRST]["size_bytes"] > 4096 and found[FIRST]["created"].startswith("20")


def test_no_name_steers_the_terminal_or_forges_a_line(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = "\x1b[2Jevil\n0123456789ab  forged\x9b\udcff"
    files = {"config.json": write_model_folder(tmp_path / "odd", seed=3) / "config.json"}
    committed = store.commit(files, document={"seed": 3}, model_name=odd, revision=odd)
    # As an earlier version wrote it.
    manifest = store.path(SECOND) / MANIFEST
    fields = json.loads(manifest.read_bytes())
    del fields["seal"]
    manifest.unlink()
    manifest.write_bytes(seal_manifest({**fields, "model_name": odd, "revision": odd}))
    (store.layout.entries / os.fsdecode(b"\x1b[2J\n\xff")).mkdir()
    (store.path(FIRST) / "\x1b[2Jstray").touch()
    for arguments, lines in ((["ls"], 5), (["verify"], 5), (["info", SECOND], 9), (["info", committed.name], 7)):
        assert run_command(arguments) in (0, 1)
        shown = capsys.readouterr().out
        assert shown.count("\n") == lines and shown.replace("\n", "").isprintable(), shown
        assert run_command([*arguments, "--json"]) in (0, 1)
        shown = capsys.readouterr().out
        assert shown.replace("\n", "").isprintable() and json.loads(shown)
    names = {entry["key"]: entry["model_name"] for entry in answer(capsys, "ls")}
    assert names[SECOND] == odd and names[committed.name].startswith(r"\x1b[2Jevil\n")


def test_info_and_path_take_a_prefix(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "path", FIRST[:10]) == {"key": FIRST, "path": str(store.path(FIRST))}
    found = answer(capsys, "info", FIRST[:10])
    assert found["document"]["seed"] == 1 and {file["name"] for file in found["files"]} > {"config.json"}


def test_verify_reports_states_and_fails(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "verify") == {
        "ok": True,
        "entries": [{"key": key, "state": "ok", "problems": []} for key in sorted((FIRST, SECOND))],
    }
    (store.path(FIRST) / "config.json").unlink()
    found = answer(capsys, "verify", FIRST[:9], code=1)
    assert found == {
        "ok": False,
        "entries": [{"key": FIRST, "state": "incomplete", "problems": ["config.json is missing"]}],
    }
    assert answer(capsys, "verify", SECOND)["ok"]
    assert answer(capsys, "repair")["entries"][0]["action"] == "restored"
    assert answer(capsys, "verify")["ok"]


def test_gc_shows_its_plan_and_does_it_on_request(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    held = store.budget.used()
    plan = answer(capsys, "gc", "--max_size", str(held - 100))
    assert [entry["key"] for entry in plan["planned"]] == [FIRST] and store.path(FIRST).exists()
    assert plan["freed_bytes"] + plan["kept_bytes"] == held and plan["done"] is False
    done = answer(capsys, "gc", "--max_size", str(held - 100), "--yes")
    assert done["freed_bytes"] == plan["freed_bytes"] and done["kept_bytes"] == store.budget.used()
    assert not store.path(FIRST).exists() and store.lookup(SECOND)
    assert answer(capsys, "gc", "--max_age", "1h")["planned"] == []


def test_a_pinned_entry_has_to_be_unpinned_before_it_goes(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "pin", FIRST[:10])
    assert answer(capsys, "gc", "--max_size", "0", "--yes")["kept_bytes"] > 4096
    assert "pinned" in refusal(capsys, "rm", FIRST[:10])
    answer(capsys, "unpin", FIRST[:10])
    assert answer(capsys, "rm", FIRST[:10])["removed"] == [FIRST] and not store.path(FIRST).exists()


def test_a_model_goes_around(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "push", FIRST[:10], "shared")["files"] == 3
    answer(capsys, "rm", FIRST)
    assert answer(capsys, "pull", FIRST[:10], (tmp_path / "shared").as_uri())["key"] == FIRST
    assert answer(capsys, "export", FIRST[:10], "out")["path"] == str(tmp_path / "out")
    answer(capsys, "rm", FIRST)
    assert answer(capsys, "import", "out")["key"] == FIRST and store.lookup(FIRST)
    write_model_folder(tmp_path / "other", seed=3)
    assert answer(capsys, "import", "other", "--name", "mine")["key"] not in (FIRST, SECOND)
    assert "mine" in {entry["model_name"] for entry in answer(capsys, "ls")}


def test_the_hub_s_cache_may_be_empty(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    del store
    assert answer(capsys, "hub") == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lss"], "did you mean ls"),
        (["gc", "--max_sise", "1GB"], "did you mean --max_size"),
        (["gc", "--max-size", "1GB"], "--max-size is not a flag of gc (did you mean --max_size?)"),
        (["import", "--allow-pickle", "x"], "--allow-pickle is not a flag of import (did you mean --allow_pickle?)"),
        (["gc", "--max_size", "huge"], "must be a size"),
        (["gc", "--max_age", "-1d"], "--max_age"),
        (["info"], "required: KEY"),
        (["info", "zz"], "no entry"),
        (["ls", "more"], "unexpected argument 'more'"),
        (["rm", ""], "no entry"),
        (["import", "missing"], "not a folder"),
        (["pull", "abc", "s3://bucket"], "s3fs"),
        (["why-miss", "--sed", "1"], "did you mean seed"),
        (["demo", "--recipe", "embedded", "--output_dir", "x"], "cannot be given here"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    del store
    assert expected in refusal(capsys, *arguments)


def test_a_wrong_limit_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del store
    monkeypatch.setenv("FINETUNE_CACHE_MAX_SIZE", "lots")
    assert "FINETUNE_CACHE_MAX_SIZE must be a size" in refusal(capsys, "ls")


def shown_help(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run_command([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    commands = list(build_parser()[1].choices)
    assert len(commands) == 16
    shown = shown_help(capsys)
    assert all(name in shown for name in commands)
    for name in commands:
        assert name in shown_help(capsys, name)


def test_help_shows_flags_in_groups_with_what_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_help(capsys, "gc")
    assert "\nlimits:\n  --max_size SIZE" in shown and "\noutput:\n  --json" in shown
    assert "every flag of train_model" in shown_help(capsys, "why-miss")


@pytest.mark.parametrize("arguments", [["--json", "ls"], ["ls", "--json"], ["--debug", "ls", "--json"]])
def test_output_flags_stand_before_or_after_the_command(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    del store
    assert run_command(arguments) == 0 and len(json.loads(capsys.readouterr().out)) == 2
