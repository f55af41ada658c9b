"""Two steps of each kind of model have the same bits on this CPU and on those that qemu emulates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from src.training.bits.emulation import EMULATED_CPUS, missing_emulator, run_on
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


@pytest.fixture(scope="module")
def trained(material: Path) -> Iterator[dict[str | None, Future[Any]]]:
    """What came of the trainings on each CPU, all at once."""
    with ThreadPoolExecutor() as pool:
        yield {cpu: pool.submit(train_on, cpu, material) for cpu in (None, *EMULATED_CPUS)}


@pytest.mark.parametrize("cpu", EMULATED_CPUS)
def test_every_training_ends_with_the_same_files_and_scores_on_another_cpu(
    cpu: str, trained: dict[str | None, Future[Any]]
) -> None:
    native, emulated = trained[None].result(), trained[cpu].result()
    assert native.keys() == TRAININGS.keys()
    different = {
        name: [part for part in native[name] if emulated[name][part] != native[name][part]] for name in TRAININGS
    }
    assert {name: parts for name, parts in different.items() if parts} == {}


def test_this_cpu_gives_the_expected_bits() -> None:
    # An end with another exit code is an error.
    assert run_on(None, "src.training.which_bits") == "These are the expected bits."
