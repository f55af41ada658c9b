"""The tutorial's names keep their meaning, without its mistakes; a model is trained once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from src.cache_manager.cache_manager import ModelCacheManager, NotCachedError, main
from src.cache_manager.testing.run_inputs import RUN_FLAGS, write_run_inputs
from src.training.testing.forked_runs import load_libraries, run_program
from src.training.testing.tiny_model import write_sentences


def environment(tmp_path: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FINETUNE_CACHE_DIR": str(tmp_path / "cache"),
        "BUILD_WORKING_DIRECTORY": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
    }


def command(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "src.cache_manager.cache_manager", *arguments],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )


def printed(tmp_path: Path, *arguments: str) -> str:
    """Runs the program in a forked process; returns what it printed."""
    done = run_program(main, *arguments, environment=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.fixture(autouse=True, scope="module")
def libraries() -> None:
    load_libraries()


@pytest.fixture
def run_flags(tmp_path: Path) -> list[str]:
    write_run_inputs(tmp_path, rows=40)
    return [*RUN_FLAGS, "--num_train_epochs", "1"]


def test_names_that_join_alike_have_keys_of_their_own(tmp_path: Path) -> None:
    manager = ModelCacheManager(tmp_path)
    assert manager.get_cache_path("org/m_v1", "main") != manager.get_cache_path("org/m", "v1_main")
    assert manager.get_cache_path("org/m") == manager.get_cache_path("org/m", "main")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    manager = ModelCacheManager(str(tmp_path))
    manager.get_cache_path("org/m").mkdir(parents=True)
    assert not manager.is_cached_manually("org/m")
    with pytest.raises(NotCachedError, match="org/m"):
        manager.load_model("org/m")


@pytest.mark.usefixtures("run_flags")
def test_a_trained_model_is_loaded_by_name(tmp_path: Path) -> None:
    def work(_: list[str]) -> int:
        from src.training.train_model import train_classifier

        manager = ModelCacheManager(tmp_path / "cache")
        path = manager.get_cache_path("base")
        train_classifier(
            str(tmp_path / "base"),
            output_dir=str(path),
            epochs=1,
            max_seq_length=32,
            train_file=str(tmp_path / "rows.csv"),
            threads=1,
        )
        assert manager.is_cached_manually("base") and not manager.is_cached_manually("base", "other")
        model, tokenizer = manager.load_model("base")
        assert model.config.num_labels == 2 and tokenizer("good")["input_ids"]
        return 0

    done = run_program(work, environment=os.environ)
    assert done.returncode == 0, done.stderr


def test_the_demo_trains_once_then_hits_and_trains_for_other_rows(tmp_path: Path, run_flags: list[str]) -> None:
    first = printed(tmp_path, *run_flags)
    assert first.count("Was it in the cache: False") == first.count("Was it in the cache: True") == 1
    assert printed(tmp_path, *run_flags).count("Was it in the cache: True") == 2
    write_sentences(tmp_path / "rows.csv", rows=40, seed=1)
    assert "Was it in the cache: False" in printed(tmp_path, *run_flags)
    entries = json.loads(command(tmp_path, "ls", "--json").stdout)
    assert [entry["state"] for entry in entries] == ["ok", "ok"]


def test_a_wrong_request_is_refused_with_one_sentence(tmp_path: Path) -> None:
    refused = command(tmp_path, "--sed", "1")
    assert refused.returncode == 2 and "did you mean seed" in refused.stderr and refused.stderr.count("\n") == 1
    assert command(tmp_path, "ls", "--sed").returncode == 2
