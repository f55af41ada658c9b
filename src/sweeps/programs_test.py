"""The programs of a sweep's actions, from the files of its points."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from src.cli.errors import EXIT_DONE, EXIT_WRONG_REQUEST
from src.sweeps import choose_best, leaderboard
from src.sweeps.outcome import COMPLETE, Outcome, refused


def manifest(folder: Path, outcomes: dict[tuple[str, int], Outcome]) -> str:
    """(value, seed) -> outcome; each point's model says in a file which it is."""
    entries = []
    for (value, seed), outcome in outcomes.items():
        place = folder / f"{value}-{seed}"
        for name in ("model", "run"):
            (place / name).mkdir(parents=True)
        (place / "model" / "weights").write_text(f"{value}-{seed}")
        (place / "run" / "report.html").write_text("report")
        (place / "outcome").write_text(json.dumps(outcome.as_json()))
        (place / "cost").write_text(json.dumps({"cpu_seconds": 10.0 + seed}))
        paths = {name: str(place / name) for name in ("model", "run", "outcome", "cost")}
        settings = {"tag": value, "seed": str(seed)}
        entries.append({**paths, "label": f"//m:s/tag={value},seed={seed}", "settings": settings})
    path = folder / "points.json"
    path.write_text(json.dumps({"sweep": "//m:s", "score": "", "points": entries}))
    return f"--manifest={path}"


def scored(validation: float, test: float) -> Outcome:
    return Outcome(status=COMPLETE, validation={"accuracy": validation}, test={"accuracy": test})


def test_the_leaderboard_is_written_for_terminal_and_browser(tmp_path: Path) -> None:
    outcomes = {("<b>", 1): scored(0.8, 0.7), ("<b>", 2): scored(0.82, 0.71), ("c", 1): scored(0.6, 0.5)}
    outcomes |= {("c", 2): scored(0.62, 0.53), ("d", 1): scored(0.9, 0.9), ("d", 2): refused("too <large>")}
    text, page = tmp_path / "text", tmp_path / "page"
    flags = [manifest(tmp_path, outcomes), f"--text={text}", f"--page={page}"]
    assert leaderboard.main(flags) == EXIT_DONE
    written = text.read_text(encoding="utf-8")
    assert "Best: tag=<b>, whose seed 2 is s.best: accuracy 0.7100 on test rows." in written
    assert "refused  //m:s/tag=d,seed=2: too <large>" in written
    html = page.read_text(encoding="utf-8")
    assert "tag=&lt;b&gt;" in html
    assert "too &lt;large&gt;" in html
    assert html.count('class="dot"') == 2
    assert "default-src 'none'" in html


def test_an_interval_is_drawn_no_further_than_a_score_can_go(tmp_path: Path) -> None:
    outcomes = {("a", 1): scored(0.5, 0.5), ("a", 2): scored(0.7, 0.7), ("b", 1): scored(0.6, 0.6)}
    outcomes[("b", 2)] = scored(0.6, 0.6)
    page = tmp_path / "page"
    flags = [manifest(tmp_path, outcomes), f"--text={tmp_path / 'text'}", f"--page={page}"]
    assert leaderboard.main(flags) == EXIT_DONE
    html = page.read_text(encoding="utf-8")
    ticks = [float(tick) for tick in re.findall(r'<text[^>]*text-anchor="end"[^>]*>([\d.]+)<', html)]
    assert max(ticks) == 1.0, "its 95 % interval is 0.6 ± 1.27"


def test_the_best_model_is_handed_out_with_its_choice(tmp_path: Path) -> None:
    outcomes = {("a", 1): scored(0.8, 0.7), ("a", 2): scored(0.82, 0.6), ("b", 1): scored(0.6, 0.9)}
    outcomes[("b", 2)] = scored(0.7, 0.9)
    model, run = tmp_path / "best", tmp_path / "best.run"
    assert choose_best.main([manifest(tmp_path, outcomes), f"--model={model}", f"--run={run}"]) == EXIT_DONE
    assert (model / "weights").read_text() == "a-2"
    assert (run / "report.html").read_text() == "report"
    choice = json.loads((run / "choice.json").read_text())
    assert (choice["point"], choice["test"]) == ("//m:s/tag=a,seed=2", {"accuracy": 0.6})


def test_without_a_whole_setting_there_is_no_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [manifest(tmp_path, {("a", 1): refused("no")}), f"--model={tmp_path}/m", f"--run={tmp_path}/r"]
    assert choose_best.main(flags) == EXIT_WRONG_REQUEST
    assert "no setting of //m:s has scores of all its seeds: see //m:s.leaderboard" in capsys.readouterr().err
