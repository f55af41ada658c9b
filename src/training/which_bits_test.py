"""What `which_bits` says of this CPU's bits, and how it ends."""

from __future__ import annotations

import pytest

from src.training import which_bits
from src.training.which_bits import EXPECTED_SHA256, EXPECTED_VERSIONS


def run(patch: pytest.MonkeyPatch, *, sha256: str, **versions: str) -> int:
    environment: dict[str, object] = {"cpu": "A CPU", "versions": {**EXPECTED_VERSIONS, "datasets": "1", **versions}}
    patch.setattr(which_bits, "trained_sha256", lambda: sha256)
    patch.setattr(which_bits, "describe_environment", lambda: environment)
    return which_bits.main([])


def test_the_expected_bits_are_exit_code_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, sha256=EXPECTED_SHA256, torch=f"{EXPECTED_VERSIONS['torch']}+cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CPU: A CPU"
    assert f"torch: {EXPECTED_VERSIONS['torch']}" in lines
    assert lines[-2:] == [f"model.safetensors: {EXPECTED_SHA256}", "These are the expected bits."]


def test_other_bits_are_exit_code_1_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, sha256="0" * 64) == 1
    captured = capsys.readouterr()
    assert f"model.safetensors: {'0' * 64}" in captured.out
    assert "not the expected bits" in captured.err and captured.err.count("\n") == 1


def test_other_bits_of_other_libraries_are_put_down_to_these(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, sha256="0" * 64, torch="9.0.1") == 1
    assert "torch is 9.0.1" in capsys.readouterr().err


def test_the_expected_bits_are_those_of_the_locked_versions() -> None:
    from importlib.metadata import version

    assert {name: version(name).partition("+")[0] for name in ("torch", "numpy", "transformers")} == EXPECTED_VERSIONS
