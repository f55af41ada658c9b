"""events.jsonl after a kill and after a resume."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.training.run.events import EventLog, read_events


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_an_event_is_in_the_file_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "new" / "events.jsonl")
    log.record({"event": "step", "step": 1, "loss": 0.5})
    assert log.path.read_text() == '{"event": "step", "step": 1, "loss": 0.5}\n'
    log.close()


def test_what_the_file_holds_stays_when_it_is_opened_again(tmp_path: Path) -> None:
    for step in (1, 2):
        log = EventLog(tmp_path / "events.jsonl")
        log.record({"step": step})
        log.close()
    assert steps(tmp_path / "events.jsonl") == [1, 2]


def test_steps_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for step in range(1, 6):
        log.record({"event": "step", "step": step})
    log.drop_after(3, epoch=0)
    log.record({"event": "step", "step": 4})
    log.close()
    assert steps(log.path) == [1, 2, 3, 4]


def test_scores_of_an_epoch_that_are_told_again_are_dropped(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for epoch in (1, 2):
        log.record({"event": "step", "step": 5 * epoch})
        log.record({"event": "evaluation", "step": 5 * epoch, "epoch": epoch})
    # The checkpoint was saved after the last step of epoch 2 and before its scores.
    log.drop_after(10, epoch=1)
    log.close()
    assert [event["event"] for event in read_events(log.path)] == ["step", "evaluation", "step"]


def test_the_history_stays_where_rewriting_it_ends_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.record({"event": "step", "step": 1})

    def write_nothing(path: Path, *_: object, **__: object) -> int:
        path.open("w").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_nothing)
    with pytest.raises(OSError, match="No space left"):
        log.drop_after(1, epoch=0)
    assert steps(log.path) == [1]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "step", "step": 1}\n{"event": "step", "step": 2, "lo')
    log = EventLog(path)
    log.drop_after(2, epoch=0)
    log.record({"step": 2})
    log.close()
    assert steps(path) == [1, 2]


def test_events_are_read_back_as_they_were_told(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.record({"event": "step", "loss": 0.5})
    log.close()
    assert read_events(log.path) == ({"event": "step", "loss": 0.5},)


@pytest.mark.parametrize("damage", [b"{\xff}\n", b"[]\n", b"[" * 100_000 + b"\n", b'{"event": "step", "st'])
def test_a_damaged_line_costs_the_history_that_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "step", "step": 1}\n' + damage)
    log = EventLog(path)
    log.drop_after(3, epoch=0)
    log.record({"event": "step", "step": 4})
    log.close()
    assert steps(path) == [1, 4] == [event["step"] for event in read_events(path)]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "events.jsonl")
    with pytest.raises(RequestError, match="is not a file: remove it"):
        EventLog(tmp_path / "events.jsonl")
