"""Scores class by class, out of a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.training.evaluation.class_metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: how many rows are of it, and shares from 0 to 1."""

    name: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Rows of one class taken for another, and their share of its rows."""

    true: str
    predicted: str
    rows: int
    share: float


def class_scores(metrics: Metrics) -> tuple[ClassScore, ...]:
    """Returns each class's scores, in the order of the matrix. What cannot be told (0 of 0) is 0."""
    counts = np.array(metrics.confusion_matrix)
    scores = []
    for name, hits, true, predicted in zip(
        metrics.labels, np.diag(counts), counts.sum(axis=1), counts.sum(axis=0), strict=True
    ):
        scores.append(
            ClassScore(
                name=name,
                rows=int(true),
                precision=float(hits / max(1, predicted)),
                recall=float(hits / max(1, true)),
                f1=float(2 * hits / max(1, true + predicted)),
            )
        )
    return tuple(scores)


def most_confused(metrics: Metrics, *, most: int) -> tuple[Confusion, ...]:
    """Returns the pairs of classes with most mistakes, at most `most` of them."""
    counts = np.array(metrics.confusion_matrix)
    rows = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    # Stable: pairs with as many mistakes stay in the order of the matrix.
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [divmod(int(at), len(counts)) for at in order if counts.flat[at]]
    return tuple(
        Confusion(
            true=metrics.labels[true],
            predicted=metrics.labels[predicted],
            rows=int(counts[true, predicted]),
            share=float(counts[true, predicted] / rows[true]),
        )
        for true, predicted in pairs
    )
