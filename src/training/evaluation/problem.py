"""What follows from what the labels are: the loss, the scores, which epoch is kept, and what is reported.

Each kind of problem is one object behind the protocol `Problem`, with its metrics behind `Metrics`. The kinds are in
src/training/problems; nothing else asks which one it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from src.training.evaluation.comparison import Comparison

if TYPE_CHECKING:
    import torch

    from src.training.evaluation.result import FinishedRun


class CardScore(NamedTuple):
    """A score in the model card: its name and text for people, and for the hub its metric's name and value, if any."""

    name: str
    text: str
    hub_metric: str | None = None
    value: float | None = None


class Metrics(Protocol):
    """Scores on one split."""

    @property
    def split(self) -> str:
        """Name of the split."""

    @property
    def examples(self) -> int:
        """How many examples were scored."""

    @property
    def loss(self) -> float:
        """Mean loss, as training minimises it."""

    @property
    def brief(self) -> str:
        """The scores in the line about an epoch."""

    def lines(self) -> list[str]:
        """Returns the scores for the console, line by line."""

    def card_scores(self) -> list[CardScore]:
        """Returns the scores for the model card."""

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as metrics.json holds them."""

    def as_event(self) -> dict[str, Any]:
        """Returns the scores as events.jsonl holds them after each epoch."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a language model says to an example.

    Attributes:
        row: number of the example in its split, from 0.
        cut: whether it is cut off by a maximum length.
    """

    row: int
    text: str
    cut: bool


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A model's predictions for examples, and how good they are.

    Attributes:
        metrics: the scores.
        predicted: [examples]; class indices, int64, or the values of a regression, float32, or a language model's mean
            loss over the learnt tokens of each, float64. Of many labels, 1 and 0, float32 [examples, labels].
        confidence: probability of each prediction, float32, of the same shape; 1 where the kind of problem has none.
        answers: of a language model, to some of the examples.
    """

    metrics: Metrics
    predicted: np.ndarray
    confidence: np.ndarray
    answers: tuple[Answer, ...] = ()


class Problem(Protocol):
    """A kind of problem, with what it knows of the labels at hand."""

    @property
    def config_problem_type(self) -> str:
        """As `problem_type` of a transformers config names it."""

    @property
    def pipeline_tag(self) -> str:
        """The task of a transformers pipeline that asks such a model, which is the hub's name for it."""

    @property
    def page_template(self) -> Path:
        """The template of the report's page; it extends page.html.j2."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs, by index: `id2label` of its config."""

    def loss_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the examples' losses, each times its weight: a scalar to backpropagate from.

        Divided by `mass` it is the loss of any set of examples. The two are apart because a quotient cannot be added
        up: the sums of batches, or of processes, can.

        Args:
            logits: [examples, outputs].
            labels: [examples], or of many labels [examples, outputs].
        """

    def mass(self, labels: torch.Tensor) -> float:
        """Returns the sum of the examples' weights; without weights, their number."""

    def score(self, logits: np.ndarray, labels: np.ndarray, *, split: str) -> Scored:
        """Scores a model's outputs.

        The loss is the one that training minimises, weights included, so that the losses of trained-on and scored
        examples can be compared. All other scores count every example the same.

        Args:
            logits: float32 [examples, outputs].
            labels: [examples], or of many labels [examples, outputs].
            split: name of the examples.
        """

    def merit(self, metrics: Any) -> tuple[float, ...]:
        """Returns what epochs are compared by: the greatest tuple is the best epoch.

        Early stopping asks for a gain in the first number.
        """

    def compare(self, *, before: np.ndarray, after: np.ndarray, true: np.ndarray) -> Comparison:
        """Compares the predictions of two models for the same examples, all [examples]."""

    def settings_lines(self) -> list[str]:
        """Returns what a run says of its settings for this kind of problem, line by line."""

    def answer(self, logits: torch.Tensor) -> str:
        """Returns one example's prediction as a line for people. logits: [outputs]."""

    def describe_model(self, *, pairs: bool) -> str:
        """Returns what kind of model it is, as a sentence of the model card begins."""

    def example(self, *, pairs: bool) -> str:
        """Returns what a pipeline may be asked, in Python, for the model card."""

    def page_view(self, run: FinishedRun) -> dict[str, Any]:
        """Returns what `page_template` is filled with, beside what every page has."""


def classifier_example(*, pairs: bool) -> str:
    """Returns what a text-classification pipeline may be asked; see `Problem.example`."""
    if pairs:
        return '{"text": "This movie was really good!", "text_pair": "I liked the film."}'
    return '"This movie was really good!"'
