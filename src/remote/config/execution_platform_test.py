"""The execution platform is read from platform.bzl, or refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from src.remote.config import execution_platform


def test_the_platform_of_this_repository_is_complete() -> None:
    platform = execution_platform.read_platform()
    assert set(platform.exec_properties) == {"ISA", "OSFamily", "container-image", "cpu_count"}
    assert all(isinstance(value, str) and value for value in platform.exec_properties.values())
    assert re.fullmatch(r"[a-z0-9.-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", platform.base_image)
    assert platform.container_image.startswith("docker://")
    assert platform.cpu_count >= 1


def test_an_enormous_test_fits_into_the_time_limit_of_an_action() -> None:
    assert execution_platform.read_platform().action_time_limit_seconds > 3600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXEC_PROPERTIES = {}\nACTION_TIME_LIMIT_SECONDS = 1\n", "lacks EXECUTOR_IMAGE"),
        ('EXEC_PROPERTIES = dict(ISA = "x86-64")\n', "malformed"),
    ],
)
def test_a_platform_that_python_cannot_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "platform.bzl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        execution_platform.read_platform(path)
