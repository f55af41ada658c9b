"""report.html: one page about one run, for people. It needs no network, and runs no script.

Texts and class names come from users' data: the template escapes all that it is given, and the page's own policy
forbids scripts and everything from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from src.cli.formats import duration
from src.training.engine.early_stopping import find_early_stop
from src.training.evaluation.class_scores import class_scores, most_confused
from src.training.recipes.recipe import REGRESSION
from src.training.report import chart_geometry, charts
from src.training.report.regression_page import cut_text, regression_view
from src.training.report.result import FinishedRun

# The second is made of the first, with other parts where the two kinds differ.
_FOLDER = Path(__file__).resolve().parent
_CLASSES, _VALUES = "page.html.j2", "regression_page.html.j2"
_MOST_MISTAKES = 20
# A larger matrix is no picture any more: the pairs that are confused most are told instead.
_LARGEST_MATRIX = 20
_MOST_PAIRS = 20
_MOST_CLASSES = 50


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row that the trained model gets wrong.

    Attributes:
        pair: its second text, if it has one.
        confidence: the model's probability of the wrong class.
    """

    text: str
    pair: str | None
    true: str
    predicted: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the confusion matrix and its share of the row."""

    rows: int
    share: float
    is_hit: bool


def report_page(run: FinishedRun) -> str:
    """Returns the page; the same text for the same run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What a macro returns is markup, and has been through this.
        finalize=lambda value: printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}\u00a0%"
    data = run.resolved["inputs"]["data"]
    is_regression = data["problem_type"] == REGRESSION
    return environment.get_template(_VALUES if is_regression else _CLASSES).render(
        run=run,
        before=run.before.metrics,
        after=run.after.metrics,
        head=_head(run),
        data=data,
        effort=_effort(run),
        settings=_settings(run.resolved),
        frame=chart_geometry,
        **(regression_view(run) if is_regression else _class_view(run)),
    )


def _class_view(run: FinishedRun) -> dict[str, Any]:
    """Returns what only the page of a classifier shows."""
    before, after = run.before.class_metrics, run.after.class_metrics
    progress = run.resolved["inputs"]["data"]["validation"]
    rows, split = progress["rows"], progress["split"]
    return {
        "interval_chart": charts.before_and_after(before, after),
        "curves": [
            charts.loss_chart(run.events, split=split),
            charts.accuracy_chart(run.events, split=split, rows=rows, kept_epoch=run.kept_epoch),
        ],
        "matrix": _matrix(run),
        "confused": most_confused(after, most=_MOST_PAIRS),
        "classes": _classes(run),
        "mistakes": confident_mistakes(run),
        "mistake_count": after.examples - _hits(run),
    }


def printable(text: str) -> str:
    """Returns text that HTML can hold and that shows what is there: control characters become a sign for them."""
    kept = (" " if letter in "\n\r\t" else letter for letter in text.encode("utf-8", "replace").decode())
    return "".join("�" if _is_control(letter) else letter for letter in kept)


def _is_control(letter: str) -> bool:
    # Beside C0 and C1: marks that turn the direction of all that follows.
    return (
        letter < " " or "\x7f" <= letter < "\xa0" or letter in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def _head(run: FinishedRun) -> dict[str, str]:
    """Returns what the page's first sentence is made of."""
    recipe = run.resolved["recipe"]
    return {
        "model": _short(recipe["model_name_or_path"]),
        "data": _short(recipe["dataset_name"] or recipe["train_file"])
        + (f" ({recipe['dataset_config_name']})" if recipe["dataset_config_name"] else ""),
    }


def _short(name: str) -> str:
    """Returns a name without the folder it lies in, or what says that it comes with the packages."""
    return Path(name).name if name.startswith(("/", ".", "~")) else name.removeprefix("embedded:")


def _hits(run: FinishedRun) -> int:
    return int(np.trace(np.array(run.after.class_metrics.confusion_matrix)))


def confident_mistakes(run: FinishedRun) -> tuple[Mistake, ...]:
    """Returns the wrong rows that the trained model is surest of, the surest first."""
    labels, true = run.after.class_metrics.labels, run.test.class_indices
    wrong = np.flatnonzero(run.after.predicted != np.array(true))
    surest = wrong[np.argsort(-run.after.confidence[wrong], kind="stable")][:_MOST_MISTAKES]
    return tuple(
        Mistake(
            text=cut_text(run.test.texts[row]),
            pair=None if run.test.text_pairs is None else cut_text(run.test.text_pairs[row]),
            true=labels[true[row]],
            predicted=labels[int(run.after.predicted[row])],
            confidence=float(run.after.confidence[row]),
        )
        for row in surest
    )


def _matrix(run: FinishedRun) -> list[tuple[str, int, list[Cell]]] | None:
    """Returns (class, its rows, cells) for each class, or None where there are too many."""
    metrics = run.after.class_metrics
    if len(metrics.labels) > _LARGEST_MATRIX:
        return None
    matrix = []
    for at, (name, counts) in enumerate(zip(metrics.labels, metrics.confusion_matrix, strict=True)):
        total = sum(counts)
        cells = [
            Cell(rows=count, share=count / max(1, total), is_hit=column == at) for column, count in enumerate(counts)
        ]
        matrix.append((name, total, cells))
    return matrix


def _classes(run: FinishedRun) -> dict[str, Any]:
    """Returns the scores of all classes, or of the worst of many, and how many there are."""
    scores = class_scores(run.after.class_metrics)
    shown = scores if len(scores) <= _MOST_CLASSES else sorted(scores, key=lambda score: score.f1)[:_MOST_CLASSES]
    return {"shown": shown, "all": len(scores)}


def _effort(run: FinishedRun) -> list[tuple[str, str]]:
    """Returns (what, how much) of the time and the machine that training took."""
    effort, environment = run.effort, run.environment
    versions: Mapping[str, str] = environment["versions"]
    return [
        ("Training time", duration(effort["seconds"])),
        ("Steps", f"{effort['steps']:,} ({effort['epochs']:g} epochs)"),
        *_early_stop(run),
        ("Examples a second", f"{effort['examples_per_second']:,.0f}"),
        ("Tokens a second", f"{effort['tokens_per_second']:,.0f}, without padding"),
        ("Most memory held", f"{effort['peak_rss_bytes'] / 2**20:,.0f} MiB"),
        ("Device", f"{effort['device']}, threads: {effort['threads']}"),
        ("Processor", str(environment["cpu"])),
        ("System", f"{environment['os']}, Python {environment['python']}"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _early_stop(run: FinishedRun) -> list[tuple[str, str]]:
    """Returns the row of a run that ended before its last epoch, if it did."""
    told = find_early_stop(run.events)
    if told is None:
        return []
    planned = run.resolved["recipe"]["num_train_epochs"]
    waited = told["epochs_without_progress"]
    return [("Stopped early", f"after epoch {told['epoch']} of {planned:g}: {waited} without a better score")]


def _settings(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (key, value) of the recipe, without what it leaves open, and the hashes of what it named."""
    given = [
        (key, _setting(value))
        for key, value in resolved["recipe"].items()
        if value is not None and key != "description"
    ]
    hashes = [("sha256 of the model's weights", resolved["inputs"]["model"]["sha256"])]
    hashes += [
        (f"sha256 of the {name} rows", resolved["inputs"]["data"][role]["sha256"])
        for role, name in (("train", "train"), ("validation", "epoch-scoring"), ("test", "test"))
    ]
    return [*given, *hashes, ("fingerprint of the run", resolved["fingerprint"])]


def _setting(value: Any) -> str:
    """Returns a value as it stands in a recipe."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
