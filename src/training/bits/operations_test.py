"""Each family of operations has the same bits on this CPU and on those that qemu emulates."""

from __future__ import annotations

import json

import pytest

from src.training.bits.emulation import EMULATED_CPUS, missing_emulator, run_on


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    if (sentence := missing_emulator()) is not None:
        pytest.fail(sentence, pytrace=False)


def compute_on(cpu: str | None) -> dict[str, str]:
    found: dict[str, str] = json.loads(run_on(cpu, "src.training.bits.operations"))
    return found


@pytest.fixture(scope="module")
def native() -> dict[str, str]:
    return compute_on(None)


@pytest.mark.parametrize("cpu", EMULATED_CPUS)
def test_every_operation_has_the_same_bits_on_another_cpu(cpu: str, native: dict[str, str]) -> None:
    emulated = compute_on(cpu)
    assert len(native) > 25
    assert [name for name in native if emulated[name] != native[name]] == []
