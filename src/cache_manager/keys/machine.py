"""What of this machine decides the bits of a run: its accelerators, and for `machine` the processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from src.training.environment.description import cpu_fields

# What distinguishes CPU models; a virtual machine may hide the model's name.
_CPU_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "model name")
# Instruction sets that torch's libraries choose their code by.
_ISA = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512", "amx")
# Variables with which people choose that code themselves.
_OVERRIDES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE"),
    "NPY_DISABLE_CPU_FEATURES",
)


def deciding_machine(reproducible: str) -> dict[str, Any]:
    """Returns the part of a key's document that describes the machine.

    Args:
        reproducible: of the recipe. With `portable` all x86-64 CPUs agree on the bits; `off` promises nothing.
    """
    fields: dict[str, Any] = {"architecture": platform.machine(), "accelerators": _accelerators()}
    if reproducible == "machine":
        fields["cpu"] = _cpu()
        fields["overrides"] = {name: os.environ[name] for name in _OVERRIDES if name in os.environ}
    return fields


def _cpu() -> dict[str, str]:
    try:
        fields = cpu_fields()
    except OSError:
        return {"model name": platform.processor()}
    cpu = {name: fields[name] for name in _CPU_FIELDS if name in fields}
    # arm64 calls them `Features`.
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {**cpu, "instructions": " ".join(sorted(flag for flag in flags if flag.startswith(_ISA)))}


def _accelerators() -> list[str]:
    """Returns the names of CUDA devices: a run uses one if it can."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return names
