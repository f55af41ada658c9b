"""Every end of a program is an exit code and one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from src.cli.errors import RequestError, StopRequested, exit_code_of


def end(error: BaseException, capsys: pytest.CaptureFixture[str], *, debug: bool = False) -> tuple[int, str]:
    def work() -> int:
        raise error

    code = exit_code_of("prog", work, debug=debug)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RequestError("wrong\nhere"), 2, "prog: wrong here\n"),
        (StopRequested("interrupted"), 3, "prog: stopped (interrupted): rerun the command to resume\n"),
        (KeyboardInterrupt(), 3, "prog: stopped"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "prog: [Errno 13] Permission denied: '/x'"),
        (
            ZeroDivisionError("by zero"),
            1,
            "prog: ZeroDivisionError: by zero (unexpected: report it, with the command and what --debug shows)\n",
        ),
        # A connection's, not standard output's.
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "prog: [Errno 32] Broken pipe\n"),
    ],
)
def test_an_error_is_one_line(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, text = end(error, capsys)
    assert found == code and text.startswith(message) and text.count("\n") == 1


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_full_disk_is_reported_as_such_by_any_library(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = end(kind(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"), capsys)
    assert (code, text) == (
        1,
        "prog: the disk is full: free some space, and rerun the command\n",
    )


@pytest.mark.parametrize("debug", [False, True])
def test_a_terminal_obeys_nothing_in_a_message(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise RequestError("a\x1b[2J\x9b2J\u202egnp.exe\x07\udcff\nprog: done " + "x" * 100_000)

    assert exit_code_of("prog", work, debug=debug) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(r"prog: a\x1b[2J\x9b2J\u202egnp.exe\x07\udcff prog: done xxx")
    assert len(lines[-1]) < 5000
    assert all(line.isprintable() for line in lines)
    assert (len(lines) > 1) is debug


@pytest.mark.parametrize("error", [RequestError("wrong"), KeyboardInterrupt(), OSError("gone"), ValueError("odd")])
def test_debug_shows_where_an_error_was_raised(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = end(error, capsys, debug=True)
    assert text.startswith("Traceback") and "raise error" in text and text.splitlines()[-1].startswith("prog: ")


def test_a_path_with_a_tilde_and_no_home_is_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as raised:
        Path("~no such user").expanduser()
    code, text = end(raised.value, capsys)
    assert code == 2 and text.startswith("prog: there is no home folder") and "set HOME" in text
