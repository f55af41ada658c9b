"""Which CPUs multiply bfloat16, and what is said on another."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli.errors import MachineError
from src.training.environment import bfloat16, description


@pytest.mark.parametrize(
    ("cpuinfo", "instructions"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n", "AMX"),
        ("flags\t\t: fpu avx512f avx512_bf16\n", "AVX512_BF16"),
        # It has AVX-512, and torch would multiply by it, after casts.
        ("flags\t\t: fpu avx2 avx512f avx512bw avx512dq avx512vl\n", None),
        ("Features\t: fp asimd bf16\n", None),
        (None, None),
    ],
)
def test_the_kernel_tells_what_multiplies_bfloat16(
    cpuinfo: str | None, instructions: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "_CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: X\n{cpuinfo}\n" * 2)
    assert bfloat16.bfloat16_instructions() == instructions
    if instructions is None:
        with pytest.raises(MachineError, match=r"AMX or AVX512_BF16.* leave it out$"):
            bfloat16.check_bfloat16()
    else:
        bfloat16.check_bfloat16()
