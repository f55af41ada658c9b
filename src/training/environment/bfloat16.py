"""Whether this CPU multiplies bfloat16. One that does not emulates it, at a fraction of the speed of float32."""

from __future__ import annotations

from src.cli.errors import MachineError
from src.training.environment.description import cpu_fields, cpu_name

# Of the field `flags`, which names what the kernel lets a process use. Best first: where both are, oneDNN takes it.
_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_BF16"}


def bfloat16_instructions() -> str | None:
    """Returns the name of the instructions that multiply bfloat16 here; None: there are none. Does not load torch."""
    try:
        flags = cpu_fields().get("flags", "").split()
    except OSError:
        return None
    return next((name for flag, name in _INSTRUCTIONS.items() if flag in flags), None)


def check_bfloat16() -> None:
    """Refuses a training in bfloat16 that would be slower than one without.

    Raises:
        MachineError: the CPU would emulate it.
    """
    if bfloat16_instructions() is None:
        raise MachineError(
            f"bf16 needs an x86-64 CPU with {' or '.join(_INSTRUCTIONS.values())} and Linux; this one "
            f"({cpu_name() or 'unknown'}) would emulate it, slower than float32: leave it out"
        )
