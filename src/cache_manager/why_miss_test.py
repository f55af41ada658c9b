"""A key holds all that decides a model, and says field by field what is behind a miss."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from src.cache_manager.keys import code_version, key, machine
from src.cache_manager.keys.key import Key, run_key
from src.cache_manager.store.store import Store
from src.cache_manager.testing.run_inputs import RUN_FLAGS, write_run_inputs
from src.cache_manager.why_miss import explain
from src.training.run.request import Request, parse_request
from src.training.run.resolved_run import ResolvedRun, resolve_run
from src.training.testing.tiny_model import write_sentences


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    write_run_inputs(tmp_path, rows=40)
    return parse_request(RUN_FLAGS, default_recipe=lambda: "embedded")


def resolved(asked: Request, tmp_path: Path, **changes: Any) -> ResolvedRun:
    return resolve_run(dataclasses.replace(asked.recipe, **changes), folder=tmp_path)


def commit(store: Store, key: Key, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("weights")
    store.commit({"weights": tmp_path / "weights"}, document=key.document, model_name="m")


def test_the_fields_of_the_key_are_those_that_the_trainer_hashes(asked: Request, tmp_path: Path) -> None:
    """If this fails, the trainer's fingerprint has an ingredient that why-miss does not show."""
    run = run_key(resolved(asked, tmp_path)).document["run"]
    deciding = {name: run[name] for name in ("trainer", "settings", "threads", "selects_epoch", "model", "data")}
    canonical = json.dumps(deciding, sort_keys=True, ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == run["fingerprint"]


def test_names_decide_nothing_and_content_does(asked: Request, tmp_path: Path) -> None:
    first = run_key(resolved(asked, tmp_path)).digest
    (tmp_path / "base").rename(tmp_path / "renamed")
    (tmp_path / "rows.csv").rename(tmp_path / "others.csv")
    moved = {"model_name_or_path": "renamed", "train_file": "others.csv"}
    assert run_key(resolved(asked, tmp_path, **moved)).digest == first
    write_sentences(tmp_path / "others.csv", rows=40, seed=1)
    assert run_key(resolved(asked, tmp_path, **moved)).digest != first


def test_the_processor_counts_for_machine_and_not_for_portable(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests: dict[str, set[str]] = {"machine": set(), "portable": set(), "off": set()}
    for cpu in ("one", "two"):
        monkeypatch.setattr(machine, "_cpu", lambda cpu=cpu: {"model name": cpu})
        for mode, found in digests.items():
            found.add(run_key(resolved(asked, tmp_path, reproducible=mode)).digest)
    assert {mode: len(found) for mode, found in digests.items()} == {"machine": 2, "portable": 1, "off": 1}


def test_both_locked_builds_of_torch_share_the_keys_of_portable_on_a_cpu(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(build: str, *, reproducible: str = "portable") -> str:
        monkeypatch.setattr(key, "version", lambda name: build if name == "torch" else "1")
        return run_key(resolved(asked, tmp_path, reproducible=reproducible)).digest

    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_accelerators", list)
    assert digest("2.13.0") == digest("2.13.0+cpu") != digest("2.13.1")
    assert digest("2.13.0", reproducible="machine") != digest("2.13.0+cpu", reproducible="machine")
    monkeypatch.setattr(machine, "_accelerators", lambda: ["a GPU"])
    assert digest("2.13.0") != digest("2.13.0+cpu")


def test_the_code_that_trains_counts_and_other_programs_do_not() -> None:
    code = code_version.training_code()
    assert {"cli/errors.py", "training/engine/trainer.py", "training/report/page.html.j2"} <= code.keys()
    assert not {"training/predict.py", "training/benchmark.py", "training/engine/trainer_test.py"} & code.keys()


def test_a_miss_is_explained_field_by_field(asked: Request, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    wanted = run_key(resolved(asked, tmp_path))
    assert explain(store, wanted).nearest is None
    near, far = {"learning_rate": 0.5}, {"learning_rate": 0.5, "seed": 7}
    for changes in (far, near):
        commit(store, run_key(resolved(asked, tmp_path, **changes)), tmp_path)
    found = explain(store, wanted)
    assert not found.hit and found.nearest == run_key(resolved(asked, tmp_path, **near)).digest
    assert found.differences == [{"field": "run.settings.learning_rate", "wanted": 5e-05, "cached": 0.5}]
    commit(store, wanted, tmp_path)
    assert explain(store, wanted).hit


def test_an_eviction_is_reported(asked: Request, tmp_path: Path) -> None:
    from src.cache_manager.store.evict import remove

    store, wanted = Store(tmp_path / "cache"), run_key(resolved(asked, tmp_path))
    commit(store, wanted, tmp_path)
    remove(store, wanted.digest, why="least recently used")
    evicted = explain(store, wanted).evicted
    assert evicted is not None and evicted["why"] == "least recently used"
