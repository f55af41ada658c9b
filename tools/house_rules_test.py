"""Tests of house_rules.py."""

from __future__ import annotations

import pytest

from tools import house_rules

# Spelt in pieces: this file has to keep the rules too.
HOST = "files.python" + "hosted.org"
IMAGES = "ghcr" + ".io"
FOLDER = "/wo" + "rk/main"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a/utils.py", "", "name the file for what is in it"),
        ("a.md", f"see {HOST}", "host of a package registry"),
        ("Dockerfile", f"FROM {IMAGES}/x/y", "host of a package registry"),
        ("a.md", "`tools/house_rules_test.py::test_of_nothing`", "which does not exist"),
        ("a.md", "`tools/gone_test.py::test_what_is_allowed`", "which does not exist"),
        ("a.toml", f'path = "{FOLDER}/x"', "path of one machine"),
    ],
)
def test_a_broken_rule_is_named(name: str, text: str, said: str) -> None:
    (finding,) = house_rules.findings(name, text)
    assert said in finding


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "`tools/house_rules_test.py::test_what_is_allowed`"),
        ("a.md", "https://download.pytorch.org/whl/cpu, ~/work/x, network/root"),
    ],
)
def test_what_is_allowed(name: str, text: str) -> None:
    assert list(house_rules.findings(name, text)) == []


@pytest.mark.parametrize(
    "code",
    [
        "square.sqrt()",
        "square.sqrt_()",
        "torch.sqrt(square)",
        "self.square[rows].sqrt().add_(1)",
        "square ** 0.5",
        "square.pow(0.5)",
        "torch.pow(square, 0.5)",
        *(f"torch.{name}(x)" for name in ("acos", "asin", "atan", "log10", "tan", "logit")),
        *(f"torch.optim.{name}([weight])" for name in ("Adam", "AdamW", "Adagrad", "RMSprop")),
        "torch.optim.AdamW([weight], fused=False)",
        "adamw(weights, gradients)",
    ],
)
def test_operations_that_differ_among_cpus_are_named_where_models_are_trained(code: str) -> None:
    (finding,) = house_rules.findings("src/training/engine/x.py", code)
    assert finding.startswith("src/training/engine/x.py:1: ")
    assert "another maker's CPU" in finding
    for name in ("src/training/engine/x_test.py", "src/remote/x.py", "docs/x.md"):
        assert list(house_rules.findings(name, code)) == []


@pytest.mark.parametrize(
    "code",
    [
        "np.sqrt(square.numpy())",
        "math.sqrt(2) + math.log10(3)",
        "exact_sqrt(square)",
        "values.rsqrt() * scale ** -0.5",
        "values.pow(2)",
        "torch.optim.AdamW([weight], fused=True)",
        "adamw(weights, gradients, fused=True)",
        "torch.optim.SGD([weight])",
    ],
)
def test_operations_that_agree_on_all_cpus_are_allowed_where_models_are_trained(code: str) -> None:
    assert list(house_rules.findings("src/training/engine/x.py", code)) == []
