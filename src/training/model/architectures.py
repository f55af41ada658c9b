"""What a model is, by the architectures that its config names. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence


def is_language_model(architectures: Sequence[str]) -> bool:
    """Whether a config's architectures name a model that continues text."""
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)
