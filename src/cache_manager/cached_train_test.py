"""A model is trained once, however many processes ask for it and whichever is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from src.cache_manager.cached_train import cached_train
from src.cache_manager.keys.key import run_key
from src.cache_manager.loading import load_model, load_tokenizer
from src.cache_manager.store.store import Store
from src.cache_manager.store.training_folder import claimed_training_folder
from src.cache_manager.store.verify import inspect
from src.cache_manager.testing.run_inputs import LANGUAGE_FLAGS, RUN_FLAGS, write_language_inputs, write_run_inputs
from src.cache_manager.why_miss import explain
from src.cli.errors import RequestError
from src.disk.owner import unique_name
from src.training.environment.stop_signal import StopSignal
from src.training.run.request import parse_request
from src.training.run.resolved_run import resolve_run

_ASKERS = 8


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("FINETUNE_CACHE_MAX_SIZE", raising=False)
    write_run_inputs(tmp_path, rows=200)
    return tmp_path


def ask(root: Path, *more: str, flags: Sequence[str] = RUN_FLAGS, limit: int | None = None) -> tuple[Path, bool]:
    request = parse_request([*flags, *more], default_recipe=lambda: "embedded")
    return cached_train(request, store=Store(root, limit=limit), stop=StopSignal(deadline_seconds=None))


def _ask_and_report(root: Path, answers: multiprocessing.SimpleQueue[tuple[str, bool]]) -> None:
    folder, hit = ask(root)
    answers.put((str(folder), hit))


def test_eight_at_once_train_once(inputs: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[tuple[str, bool]] = context.SimpleQueue()
    askers = [context.Process(target=_ask_and_report, args=(inputs / "cache", answers)) for _ in range(_ASKERS)]
    for asker in askers:
        asker.start()
    received = [answers.get() for _ in askers]
    for asker in askers:
        asker.join()
    assert sorted(hit for _, hit in received) == [False] + [True] * (_ASKERS - 1)
    (folder,) = {folder for folder, _ in received}
    assert inspect(Store(inputs / "cache").layout, Path(folder).name, every_byte=True).state == "ok"


def test_a_killed_training_leaves_nothing_that_counts_and_the_next_one_trains(inputs: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from src.cache_manager.cached_train_test import ask; "
        "ask(Path(sys.argv[1]), '--num_train_epochs', '500')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    training = subprocess.Popen(
        [sys.executable, "-c", code, str(inputs / "cache")], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert training.stdout is not None
    for line in training.stdout:
        if "epoch 1" in line.lower():
            break
    training.send_signal(signal.SIGKILL)
    training.wait()
    training.stdout.close()
    assert not list(Store(inputs / "cache").keys())
    folder, hit = ask(inputs / "cache")
    assert not hit and ask(inputs / "cache") == (folder, True)


def test_a_training_that_was_killed_before_its_commit_is_not_done_again(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(inputs / "cache")
    monkeypatch.undo()
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(inputs))
    monkeypatch.setattr("src.cache_manager.cached_train.run", lambda *_, **__: pytest.fail("trained again"))
    _, hit = ask(inputs / "cache")
    assert not hit and not list(Store(inputs / "cache").layout.training.iterdir())


def test_what_cannot_fit_is_refused_before_it_is_trained(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.cache_manager.cached_train.run", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(RequestError, match="weights alone"):
        ask(inputs / "cache", limit=1000)


def test_a_language_model_is_kept_with_its_adapter(inputs: Path) -> None:
    write_language_inputs(inputs)
    folder, hit = ask(inputs / "cache", flags=LANGUAGE_FLAGS)
    assert not hit and ask(inputs / "cache", flags=LANGUAGE_FLAGS) == (folder, True)
    assert {path.name for path in (folder / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    store = Store(inputs / "cache")
    assert inspect(store.layout, folder.name, every_byte=True).state == "ok"
    adapted, tokenizer = load_model(folder), load_tokenizer(folder)
    ids = tokenizer("the film", return_tensors="pt").input_ids
    with torch.inference_mode():
        base = AutoModelForCausalLM.from_pretrained(inputs / "chat")
        assert type(adapted) is type(base) and not torch.equal(adapted(ids).logits, base(ids).logits)
    request = parse_request([*LANGUAGE_FLAGS, "--lora_r", "2"], default_recipe=lambda: "embedded")
    missed = explain(store, run_key(resolve_run(request.recipe, folder=inputs)))
    assert [(each["field"], each["wanted"], each["cached"]) for each in missed.differences] == [
        ("run.settings.lora_r", 2, 8)
    ]
    (folder / "adapter" / "adapter_model.safetensors").chmod(0o644)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    assert store.lookup(folder.name) is None


def test_without_working_locks_each_process_trains_in_its_own_folder(tmp_path: Path) -> None:
    layout = Store(tmp_path).layout
    with claimed_training_folder(layout, "k") as first:
        with claimed_training_folder(layout, "k") as second:
            second.mkdir()
            assert first != second
        assert not second.exists()
    with claimed_training_folder(layout, "k") as again:
        assert again == first


def test_gc_leaves_a_running_training(tmp_path: Path) -> None:
    from src.cache_manager.store.sweep import remove_old_trainings, sweep

    store, key = Store(tmp_path), "a" * 64
    with claimed_training_folder(store.layout, key) as training_folder:
        training_folder.mkdir()
        sweep(store)
        assert remove_old_trainings(store, older_than=0.0) == 0 and training_folder.exists()
    assert remove_old_trainings(store, older_than=0.0) == 1 and not training_folder.exists()


def test_the_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    layout = Store(tmp_path).layout
    layout.training.mkdir(parents=True)
    dead = unique_name().replace(f".{os.getpid()}.", ".4194301.")
    (layout.training / "k.claim").write_text(dead)
    started = time.monotonic()
    with claimed_training_folder(layout, "k") as training_folder:
        assert training_folder == layout.training / "k"
    assert time.monotonic() - started < 30 and not list(layout.training.iterdir())
