"""Each family of operations has the same bits on this CPU and on those that qemu emulates."""

from __future__ import annotations

import pytest

from src.training.bits.emulation import EMULATED_CPUS, missing_emulator, run_on


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    if (sentence := missing_emulator()) is not None:
        pytest.fail(sentence, pytrace=False)


@pytest.fixture(scope="module")
def native() -> dict[str, str]:
    found: dict[str, str] = run_on(None, "src.training.bits.operations")
    return found


@pytest.mark.parametrize("cpu", EMULATED_CPUS)
def test_every_operation_has_the_same_bits_on_another_cpu(cpu: str, native: dict[str, str]) -> None:
    emulated = run_on(cpu, "src.training.bits.operations")
    assert len(native) > 25
    assert [name for name in native if emulated[name] != native[name]] == []
