"""Each family of operations has the same bits on this CPU and on those that qemu emulates."""

from __future__ import annotations

import pytest

from src.training.bits.emulation import EMULATED_CPUS, NoEmulatorError, run_on


@pytest.fixture(scope="module")
def native() -> dict[str, str]:
    try:
        found: dict[str, str] = run_on(None, "src.training.bits.operations")
    except NoEmulatorError as error:
        pytest.fail(str(error), pytrace=False)
    return found


@pytest.mark.parametrize("cpu", EMULATED_CPUS)
def test_every_operation_has_the_same_bits_on_another_cpu(cpu: str, native: dict[str, str]) -> None:
    emulated = run_on(cpu, "src.training.bits.operations")
    assert len(native) > 25
    assert [name for name in native if emulated[name] != native[name]] == []
