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
        ("a.toml", f'path = "{FOLDER}/x"', "path of one machine"),
    ],
)
def test_a_broken_rule_is_named(name: str, text: str, said: str) -> None:
    (finding,) = house_rules.findings(name, text)
    assert said in finding


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "https://download.pytorch.org/whl/cpu, ~/work/x, network/root"),
    ],
)
def test_what_is_allowed(name: str, text: str) -> None:
    assert list(house_rules.findings(name, text)) == []
