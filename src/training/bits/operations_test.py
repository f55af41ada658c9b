"""Each family of operations has the same bits on this CPU and on those that qemu emulates."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from src.training.bits.emulation import EMULATED_CPUS, missing_emulator, run_on


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    if (sentence := missing_emulator()) is not None:
        pytest.fail(sentence, pytrace=False)


def compute_on(cpu: str | None) -> dict[str, str]:
    found: dict[str, str] = json.loads(run_on(cpu, "src.training.bits.operations"))
    return found


def test_every_operation_has_the_same_bits_on_other_cpus() -> None:
    # At once: an emulated CPU has one core.
    with ThreadPoolExecutor() as pool:
        native, *emulated = pool.map(compute_on, (None, *EMULATED_CPUS))
    assert len(native) > 25
    different = {
        cpu: [name for name in native if found[name] != native[name]]
        for cpu, found in zip(EMULATED_CPUS, emulated, strict=True)
    }
    assert {cpu: names for cpu, names in different.items() if names} == {}
