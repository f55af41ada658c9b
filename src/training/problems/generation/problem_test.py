"""The loss and the scores of a language model, and what makes one better than another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from src.training.data.prompt_form import PromptForm
from src.training.evaluation.intervals import wilson_interval
from src.training.problems.generation.metrics import TokenMetrics, score_tokens
from src.training.problems.generation.problem import GenerationProblem
from src.training.testing.example_run import example_generation

PROBLEM = GenerationProblem(form=PromptForm(form="plain"))


def test_the_loss_is_divided_by_the_tokens_of_all_rows_not_row_by_row() -> None:
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    counts = torch.tensor([7, 2])
    total = PROBLEM.loss_sum(logits[:7], ids[:7]) + PROBLEM.loss_sum(logits[7:], ids[7:])
    assert float(total) / PROBLEM.mass(counts) == pytest.approx(float(functional.cross_entropy(logits, ids)))


def test_scores_are_those_of_all_tokens() -> None:
    outputs = np.array([[14.0, 7, 3], [1.0, 2, 2]], np.float32)
    scored = PROBLEM.score(outputs, np.array([7, 2]), split="test")
    metrics = scored.metrics
    assert isinstance(metrics, TokenMetrics)
    assert (metrics.examples, metrics.tokens) == (2, 9)
    assert metrics.loss == pytest.approx(15 / 9)
    assert metrics.perplexity == pytest.approx(math.exp(15 / 9))
    assert metrics.token_accuracy == pytest.approx(5 / 9)
    assert scored.predicted.tolist() == [2.0, 0.5]
    assert scored.confidence.tolist() == pytest.approx([math.exp(-2), math.exp(-0.5)])
    assert metrics.lines()[0] == "Examples: 2 (test), 9 tokens"
    assert set(metrics.as_event()) == {"loss", "perplexity", "token_accuracy"}


@pytest.mark.parametrize(("loss", "perplexity"), [(800.0, None), (math.nan, None), (0.0, 1.0)])
def test_a_perplexity_that_is_no_number_is_none(loss: float, perplexity: float | None) -> None:
    one = np.ones(1)
    metrics = score_tokens(split="test", losses=loss * one, tokens=one, correct=one)
    assert metrics.perplexity == perplexity
    assert len(metrics.lines()) == 3


def test_tokens_of_a_row_that_are_right_together_widen_the_interval() -> None:
    def interval(correct: list[int]) -> tuple[float, float]:
        rows = np.full(len(correct), 10)
        metrics = score_tokens(split="test", losses=rows, tokens=rows, correct=np.array(correct))
        assert metrics.token_accuracy == 0.5
        return metrics.token_accuracy_ci95

    # All of a row or nothing: as many independent tokens as rows, but for the one that the mean takes.
    assert interval([0, 10] * 20) == wilson_interval(20, 39)
    # Each row is half right: no more is known than of so many tokens, and no less than of so many rows.
    assert interval([5] * 40) == wilson_interval(20, 40)
    low, high = interval([4, 6] * 20)
    assert low > interval([0, 10] * 20)[0] and high < interval([0, 10] * 20)[1]


def test_the_interval_holds_in_19_of_20_cases() -> None:
    random = np.random.default_rng(0)
    held = []
    for _ in range(400):
        tokens = random.integers(2, 30, 60)
        correct = random.binomial(tokens, random.beta(4, 2, 60))
        low, high = score_tokens(split="test", losses=tokens, tokens=tokens, correct=correct).token_accuracy_ci95
        held.append(low <= 4 / 6 <= high)
    assert 0.92 < np.mean(held) < 0.98


def test_the_lowest_loss_is_the_best() -> None:
    rows = np.array([5])
    near, far = (score_tokens(split="t", losses=rows * loss, tokens=rows, correct=rows) for loss in (1.0, 2.0))
    assert PROBLEM.merit(near) > PROBLEM.merit(far) == (-2.0,)


def test_models_are_compared_row_by_row_and_answer_by_answer() -> None:
    run = example_generation(rows=40, answered=30, right_after=20)
    told = run.comparison.as_json()
    assert (told["test"], told["better"], told["worse"]) == ("wilcoxon_signed_rank", 40, 0)
    assert (told["exact_match"]["test"], told["exact_match"]["better"]) == ("mcnemar_exact", 20)
    assert run.comparison.summary.startswith("40 with a lower loss, 0 with a higher one: better, by more than noise (W")
    assert "; of the answers 20 right that were wrong, 0 wrong" in run.comparison.summary
    unanswered = example_generation(answered=0).comparison
    assert unanswered.as_json()["exact_match"] is None
    assert "answers" not in unanswered.summary


def test_a_pipeline_is_asked_in_the_form_that_was_learnt() -> None:
    chat = GenerationProblem(form=PromptForm(form="chat", system="be brief"))
    assert '[{"role": "system", "content": "be brief"}, {"role": "user", "content": "This' in chat.example(pairs=False)
    assert PROBLEM.example(pairs=False) == '"This movie was really good!"'
    alpaca = GenerationProblem(form=PromptForm(form="alpaca"))
    assert "### Instruction:\\nThis movie was really good!" in alpaca.example(pairs=False)
