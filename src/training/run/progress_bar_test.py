"""A bar on a terminal and lines elsewhere, and the terminal as it was after either."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.console import Console

from src.cli.errors import StopRequested
from src.cli.formats import duration
from src.training.engine.trainer import TrainerState
from src.training.run.console import configure_logging
from src.training.run.progress_bar import StepDisplay, step_display

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def steps(show: StepDisplay, *, number: int, seconds: float) -> None:
    """Tells of steps of 8 examples that take so many seconds each."""
    for step in range(1, number + 1):
        show(TrainerState(step=step, seconds=step * seconds, examples=8 * step), 0.5)


def test_elsewhere_there_are_lines_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    with step_display(100) as show:
        steps(show, number=100, seconds=0.2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 26 of 100  loss 0.5000  40 examples a second  15 s left"
    assert lines[-1] == "step 100 of 100  loss 0.5000  40 examples a second  0 s left"
    assert len(lines) == 4
    assert "\x1b" not in "".join(lines)


def test_lines_tell_the_mean_loss_since_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    with step_display(3) as show:
        for step, loss in enumerate((1.0, 2.0, 6.0), start=1):
            show(TrainerState(step=step, seconds=6.0 * (step // 2), examples=step), loss)
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()] == ["loss 1.5000", "loss 6.0000"]


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, "xterm"), (True, "dumb"), (False, "xterm")])
def test_only_a_terminal_that_can_gets_a_bar(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: str) -> None:
    configure_logging()
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", kind)
    # Many a CI sets it, and its log is no terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    with step_display(10) as show:
        steps(show, number=10, seconds=1.0)
    assert (HIDE_CURSOR in out.getvalue()) == (is_terminal and kind == "xterm")


def test_the_bar_tells_steps_loss_speed_and_what_is_left(terminal: Console) -> None:
    with step_display(1200, console=terminal) as show:
        steps(show, number=300, seconds=1.0)
    assert "step 300 of 1,200  loss 0.5000  8 examples a second  15 min 0 s left" in written(terminal)


def test_the_bar_is_drawn_at_most_four_times_a_second(terminal: Console) -> None:
    with step_display(10_000, console=terminal) as show:
        drawn = []
        for step in range(1, 5001):
            before = len(written(terminal))
            show(TrainerState(step=step, seconds=step * 0.001, examples=step), 0.5)
            drawn.append(len(written(terminal)) > before)
    assert 15 <= sum(drawn) <= 21


def test_lines_go_above_the_bar_whole_and_as_they_are(terminal: Console) -> None:
    configure_logging()
    path = f"saved [red]{'x' * 200}"
    with step_display(10, console=terminal) as show:
        steps(show, number=5, seconds=1.0)
        logging.getLogger("finetune").info("%s", path)
        steps(show, number=10, seconds=1.0)
    assert path in written(terminal)
    assert written(terminal).rindex("step 10 of 10") > written(terminal).index(path)


@pytest.mark.parametrize("stopped", [StopRequested("interrupted"), KeyboardInterrupt()])
def test_the_terminal_is_left_as_it_was(
    terminal: Console, capsys: pytest.CaptureFixture[str], stopped: BaseException
) -> None:
    configure_logging()
    with pytest.raises(type(stopped)), step_display(10, console=terminal) as show:
        steps(show, number=5, seconds=1.0)
        raise stopped
    text = written(terminal)
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    logging.getLogger("finetune").info("after")
    assert capsys.readouterr().out == "after\n"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (0.44, "0.4 s"), (9.98, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7512, "2 h 5 min")],
)
def test_durations_are_as_a_person_reads_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told
