"""Programs whose standard output is closed, full or read by nobody: no flood of errors, and nothing that is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_WRONG_REQUEST

# The work of a program, and whether what it prints is all that comes of it.
_PROGRAM = """
import logging, pathlib, sys
from src.cli.errors import exit_code_of
from src.cli.standard_output import OutputHandler, write_result

def work():
{work}
    return 0

sys.exit(exit_code_of("prog", work, debug=False, answers={answers}))
"""
_PRINTS = "sys.stdout.write('answer\\n')"
_LOGS = "\n    ".join(
    (
        "logging.basicConfig(level=logging.INFO, handlers=[OutputHandler(lambda reason: sys.stderr.write(reason))])",
        "logging.info('one')",
        "logging.info('two')",
    )
)


def run(work: str, output: str, *, answers: bool = False, folder: Path | None = None) -> tuple[int, str, str]:
    """Runs a program in a shell; returns its exit code and what it wrote to standard output and error.

    Args:
        work: its statements.
        output: what the shell does with its output: a redirection, or a pipe.
        answers: as of `exit_code_of`.
        folder: it is called in.
    """
    code = _PROGRAM.format(work=f"    {work}", answers=answers)
    done = subprocess.run(
        ["bash", "-c", f'{{ "$0" -c "$1"; echo "code $?" >&2; }} {output}', sys.executable, code],
        env={"PYTHONPATH": ":".join(sys.path)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    errors, _, code = done.stderr.rpartition("code ")
    return int(code), done.stdout, errors


def test_a_program_that_answers_there_is_refused_if_it_is_closed_before_it_works(tmp_path: Path) -> None:
    code, _, errors = run("pathlib.Path('worked').touch()", ">&-", answers=True, folder=tmp_path)
    assert (code, list(tmp_path.iterdir())) == (EXIT_WRONG_REQUEST, [])
    assert errors == "prog: standard output is closed, and the answer goes there: redirect it to a file\n"


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- <&-"])
def test_any_other_program_works_and_no_file_gets_the_closed_number(closed: str, tmp_path: Path) -> None:
    work = "file = open('file', 'w'); print(sys.stdin.read(0)); pathlib.Path('number').write_text(str(file.fileno()))"
    assert run(work, closed, folder=tmp_path)[::2] == (EXIT_DONE, "")
    assert int((tmp_path / "number").read_text()) > 2


# argparse exits by itself after --help.
@pytest.mark.parametrize("work", [_PRINTS, f"{_PRINTS}; sys.stdout.flush()", f"{_PRINTS}; raise SystemExit(0)"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(work: str) -> None:
    # The sleep is over when the reader is gone.
    assert run(f"sys.stdin.read(); {work}", "< <(sleep 0.2) | true") == (EXIT_DONE, "", "")


def test_a_full_disk_is_reported_once() -> None:
    code, _, errors = run(_PRINTS, "> /dev/full")
    assert (code, errors) == (EXIT_FAILED, "prog: the disk is full: free some space, and rerun the command\n")


def test_an_error_is_reported_whatever_becomes_of_what_was_printed() -> None:
    code, _, errors = run(f"{_PRINTS}; raise ValueError('odd')", "> /dev/full")
    assert (code, errors) == (
        EXIT_FAILED,
        "prog: ValueError: odd (unexpected: report it, with the command and what --debug shows)\n",
    )


@pytest.mark.parametrize(
    ("output", "reason"),
    [("> /dev/full", "No space left on device"), ("< <(sleep 0.2) | true", "nobody reads it any more")],
)
def test_log_lines_that_cannot_be_written_are_told_once(output: str, reason: str) -> None:
    assert run(f"sys.stdin.read()\n    {_LOGS}", output) == (EXIT_DONE, "", f"standard output: {reason}")


@pytest.mark.parametrize("output", ["> /dev/full", "< <(sleep 0.2) | true"])
def test_a_result_that_cannot_be_written_there_goes_to_standard_error(output: str) -> None:
    assert run("sys.stdin.read(); write_result('Model saved\\n')", output) == (EXIT_DONE, "", "Model saved\n")
