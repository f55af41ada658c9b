"""The loss: what torch and transformers make of the same rows, and that its two sums add up over batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from src.training.evaluation.problem import Problem
from src.training.problems.classification.problem import Classification
from src.training.problems.multi_label.problem import MultiLabel
from src.training.problems.regression.problem import Regression
from src.training.testing.tiny_model import build_tiny_model

PLAIN = Classification(class_names=("a", "b", "c"))
WEIGHTED = Classification(class_names=("a", "b", "c"), class_weights=(0.5, 1.0, 4.0))
VALUES = Regression(label_name="score")
MANY = MultiLabel(label_names=("a", "b", "c"))
KINDS = {"plain": PLAIN, "weighted": WEIGHTED, "values": VALUES, "many": MANY}


def rows(number: int, problem: Problem = PLAIN) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    outputs = len(problem.output_names)
    logits = torch.randn(number, outputs, generator=random)
    if problem is VALUES:
        return logits, torch.randn(number, generator=random)
    if problem is MANY:
        return logits, torch.randint(2, (number, outputs), generator=random).float()
    return logits, torch.randint(outputs, (number,), generator=random)


def loss(problem: Problem, logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float(problem.loss_sum(logits, labels) / problem.mass(labels))


def test_without_weights_it_is_the_mean_cross_entropy() -> None:
    logits, labels = rows(50)
    assert loss(PLAIN, logits, labels) == pytest.approx(float(functional.cross_entropy(logits, labels)))
    assert PLAIN.mass(labels) == 50.0


def test_with_weights_it_is_torchs_weighted_mean() -> None:
    logits, labels = rows(50)
    weights = torch.tensor(WEIGHTED.class_weights)
    assert loss(WEIGHTED, logits, labels) == pytest.approx(float(functional.cross_entropy(logits, labels, weights)))
    assert WEIGHTED.mass(torch.tensor([0, 0, 1, 2])) == 6.0


def test_of_values_it_is_the_mean_squared_error_row_by_row() -> None:
    logits, labels = rows(50, VALUES)
    assert loss(VALUES, logits, labels) == pytest.approx(float(((logits[:, 0] - labels) ** 2).mean()))
    assert loss(VALUES, torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 3.0])) == 0.0


@pytest.mark.parametrize("problem", KINDS.values(), ids=KINDS)
def test_the_sums_of_batches_are_those_of_all_rows(problem: Problem) -> None:
    logits, labels = rows(50, problem)
    parts = [(logits[at : at + 7], labels[at : at + 7]) for at in range(0, 50, 7)]
    total = sum(float(problem.loss_sum(*part)) for part in parts)
    mass = sum(problem.mass(part[1]) for part in parts)
    assert total / mass == pytest.approx(loss(problem, logits, labels), rel=1e-5)


@pytest.mark.parametrize("problem", KINDS.values(), ids=KINDS)
def test_it_can_be_gone_back_from(problem: Problem) -> None:
    logits, labels = rows(8, problem)
    logits.requires_grad_()
    problem.loss_sum(logits, labels).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("ours", [PLAIN, VALUES, MANY], ids=["plain", "values", "many"])
def test_a_model_of_transformers_says_the_same_of_its_labels(tmp_path: Path, ours: Problem) -> None:
    from transformers import AutoModelForSequenceClassification

    base = build_tiny_model(tmp_path / "tiny", head=len(ours.output_names))
    model = AutoModelForSequenceClassification.from_pretrained(base, problem_type=ours.config_problem_type).eval()
    ids = torch.randint(5, 40, (6, 9), generator=torch.Generator().manual_seed(2))
    labels = rows(6, ours)[1]
    with torch.inference_mode():
        theirs = model(input_ids=ids, labels=labels)
    assert loss(ours, theirs.logits, labels) == pytest.approx(float(theirs.loss), rel=1e-6)
