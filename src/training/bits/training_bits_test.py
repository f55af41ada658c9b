"""Two steps of each kind of model have the same bits on this CPU and on one of another maker, which qemu emulates."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from src.training.bits.emulation import cpu_of_another_maker, missing_emulator, run_on
from src.training.bits.trainings import TRAININGS, write_material


def train_on(cpu: str | None, material: Path) -> Any:
    output = material.parent / str(cpu)
    return json.loads(run_on(cpu, "src.training.bits.trainings", str(material), str(output)))


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    if (sentence := missing_emulator()) is not None:
        pytest.fail(sentence, pytrace=False)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("bits") / "material")


def test_every_training_ends_with_the_same_files_and_scores_on_another_makers_cpu(material: Path) -> None:
    # At once: the emulated one takes minutes. operations_test has a CPU of this maker too.
    with ThreadPoolExecutor() as pool:
        native, emulated = pool.map(lambda cpu: train_on(cpu, material), (None, cpu_of_another_maker()))
    assert native.keys() == TRAININGS.keys()
    different = {
        name: [part for part in native[name] if emulated[name][part] != native[name][part]] for name in TRAININGS
    }
    assert {name: parts for name, parts in different.items() if parts} == {}


def test_this_cpu_gives_the_expected_bits() -> None:
    # An end with another exit code is an error.
    assert run_on(None, "src.training.which_bits") == "These are the expected bits."
