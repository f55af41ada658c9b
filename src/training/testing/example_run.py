"""A finished run that no training was needed for: what tests show to people."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from src.training.data.conversations import Conversation, Conversations, Turn
from src.training.data.prompt_form import PromptForm
from src.training.data.rows import Examples
from src.training.evaluation.problem import Answer, Scored
from src.training.evaluation.result import FinishedRun
from src.training.problems.classification.metrics import score_classes
from src.training.problems.classification.problem import Classification
from src.training.problems.generation.problem import GenerationProblem
from src.training.problems.regression.metrics import score_values
from src.training.problems.regression.problem import Regression
from src.training.recipes.recipe import TEXT_CLASSIFICATION, TEXT_GENERATION, Recipe, with_task_defaults


def step_event(step: int, *, epoch: float, loss: float) -> dict[str, Any]:
    """Returns a line of events.jsonl about steps."""
    return {"event": "step", "step": step, "epoch": epoch, "loss": loss}


def evaluation_event(epoch: int, *, loss: float, **scores: float) -> dict[str, Any]:
    """Returns a line of events.jsonl about an epoch's scores."""
    return {"event": "evaluation", "step": epoch, "epoch": epoch, "loss": loss, **scores}


def example_run(
    *,
    names: Sequence[str] = ("bad", "good"),
    rows: int = 1000,
    right_before: int = 500,
    right_after: int = 875,
    text: str = "row {row}",
    epochs: int = 3,
    **fields: Any,
) -> FinishedRun:
    """Returns a run whose first so many test rows are right, before and after.

    Args:
        names: the classes; row i is of class i modulo their number.
        rows: how many test rows.
        right_before: how many are right before training.
        right_after: how many are right after.
        text: of each row; `{row}` is its number.
        epochs: how many were trained.
        **fields: of the recipe.
    """
    defaults: dict[str, Any] = {"model_name_or_path": "embedded:minilm-l6", "train_file": "my.csv"}
    recipe = Recipe(**{**defaults, **fields})
    problem = Classification(class_names=tuple(names))
    true = np.arange(rows) % len(names)
    before, after = (_scored(true, right=right, names=tuple(names)) for right in (right_before, right_after))
    steps = [
        step_event(step, epoch=round(step / 40 * epochs, 4), loss=0.7 - 0.01 * step + 0.05 * (step % 3))
        for step in range(1, 41)
    ]
    scored = [evaluation_event(epoch, accuracy=0.6 + 0.02 * epoch, loss=0.5) for epoch in range(1, epochs + 1)]
    return FinishedRun(
        title="mine",
        problem=problem,
        resolved=_resolved(with_task_defaults(recipe, task=recipe.task or TEXT_CLASSIFICATION), rows=rows),
        test=Examples(
            split="test",
            texts=tuple(text.replace("{row}", str(row)) for row in range(rows)),
            labels=tuple(int(label) for label in true),
        ),
        before=before,
        after=after,
        comparison=problem.compare(before=before.predicted, after=after.predicted, true=true),
        events=(*steps, *scored),
        kept_epoch=epochs,
        effort={
            **{"seconds": 83.4, "examples": 27000, "examples_per_second": 323.7, "tokens_per_second": 9001.2},
            **{"epochs": float(epochs), "steps": 40, "peak_rss_bytes": 800_000_000, "threads": 2, "device": "cpu"},
        },
        environment={"cpu": "A CPU", "os": "Linux", "python": "3.12.0", "versions": {"torch": "2.13.0"}},
    )


def example_regression(
    *, rows: int = 1000, text: str = "row {row}", epochs: int = 3, unit: float = 1.0, **fields: Any
) -> FinishedRun:
    """Returns a run that learnt values from -4 to 4, in some unit: the model says half of each, before 0.

    Args:
        rows: how many test rows.
        text: of each row; `{row}` is its number.
        epochs: how many were trained.
        unit: what every value is multiplied by.
        **fields: of the recipe.
    """
    run = example_run(rows=rows, text=text, epochs=epochs, problem_type="regression", **fields)
    true = np.round(4 * np.sin(np.arange(rows)), 1) * unit
    noise = np.cos(7 * np.arange(rows)) * unit
    predicted = {"before": 0.01 * noise, "after": 0.5 * true + noise}
    before, after = (_scored_values(predicted[side].astype(np.float32), true=true) for side in ("before", "after"))
    scored = [
        evaluation_event(epoch, loss=(1.5 - 0.1 * epoch) * unit**2)
        | {"mae": (1 - 0.1 * epoch) * unit, "mae_ci95": [(0.95 - 0.1 * epoch) * unit, (1.05 - 0.1 * epoch) * unit]}
        for epoch in range(1, epochs + 1)
    ]
    steps = [{**event, "loss": event["loss"] * 3 * unit**2} for event in run.events if event["event"] == "step"]
    problem = Regression(label_name=run.resolved["recipe"]["label_column_name"])
    return dataclasses.replace(
        run,
        problem=problem,
        test=dataclasses.replace(run.test, labels=tuple(map(float, true))),
        before=before,
        after=after,
        comparison=problem.compare(**predicted, true=true),
        events=(*steps, *scored),
    )


def example_generation(
    *, rows: int = 40, answered: int = 30, right_after: int = 20, text: str = "row {row}", **fields: Any
) -> FinishedRun:
    """Returns a run of a language model that learnt to answer in JSON: at first it answers in prose.

    Args:
        rows: how many test rows.
        answered: how many of them were answered; none are exact before.
        right_after: how many are exact after.
        text: of each question; `{row}` is its number.
        **fields: of the recipe.
    """
    run = example_run(rows=rows, task=TEXT_GENERATION, **fields)
    problem = GenerationProblem(form=PromptForm(form="chat", system="Answer in JSON."))
    test = Conversations(
        split="test",
        origin="my.jsonl",
        rows=tuple(
            Conversation(
                turns=(
                    Turn(role="system", content="Answer in JSON."),
                    Turn(role="user", content=text.replace("{row}", str(row))),
                    Turn(role="assistant", content=_opinion(row)),
                )
            )
            for row in range(rows)
        ),
        numbers=tuple(range(1, rows + 1)),
    )
    tokens = 8 + np.arange(rows) % 3
    prose = [Answer(row=row, text="It is a film.", cut=row % 2 == 0) for row in range(answered)]
    opinions = [
        Answer(row=row, text=_opinion(row if row < right_after else row + 1), cut=False) for row in range(answered)
    ]
    before, after = (
        problem.score(
            np.stack([tokens * loss, tokens, np.floor(tokens * share)], axis=1).astype(np.float32), tokens, split="test"
        )
        for loss, share in ((2 + 0.01 * np.arange(rows), 0.4), (0.3 + 0.01 * np.arange(rows), 0.9))
    )
    if answered:
        before, after = (
            problem.with_answers(scored, answers, rows=test) for scored, answers in ((before, prose), (after, opinions))
        )
    whole: Any = test
    return dataclasses.replace(
        run,
        problem=problem,
        test=whole,
        before=before,
        after=after,
        comparison=problem.compare_scored(before=before, after=after, rows=test),
    )


def _opinion(row: int) -> str:
    return f'{{"domain": "movie", "sentiment": "{("bad", "good")[row % 2]}"}}'


def _scored_values(predicted: np.ndarray, *, true: np.ndarray) -> Scored:
    loss = float(np.mean((predicted - true) ** 2))
    metrics = score_values(split="test", loss=loss, predicted=predicted, true=true)
    return Scored(metrics=metrics, predicted=predicted, confidence=np.ones(len(true), np.float32))


def _scored(true: np.ndarray, *, right: int, names: tuple[str, ...]) -> Scored:
    rows = np.arange(len(true))
    predicted = np.where(rows < right, true, (true + 1) % len(names))
    metrics = score_classes(split="test", loss=0.25, predicted=predicted, true=true, class_names=names)
    # The confidence grows with the number.
    return Scored(metrics=metrics, predicted=predicted, confidence=(0.5 + rows / len(rows) / 2).astype(np.float32))


def _resolved(recipe: Recipe, *, rows: int) -> dict[str, Any]:
    counts = {"train": ("train", 9000), "validation": ("validation", 800), "test": ("test", rows)}
    data: dict[str, Any] = {
        role: {"split": split, "rows": count, "sha256": "0" * 64} for role, (split, count) in counts.items()
    }
    data["problem_type"] = recipe.problem_type or "classification"
    return {
        "recipe": dataclasses.asdict(recipe),
        "inputs": {"model": {"source": recipe.model_name_or_path, "sha256": "1" * 64}, "data": data},
        "fingerprint": "2" * 64,
    }
