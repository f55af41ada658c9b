"""The learning-rate schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from src.training.optimizer.schedule import Schedule


def rates(steps: int, **fields: Any) -> list[float]:
    schedule = Schedule(**{"kind": "linear", "warmup_ratio": 0.0, **fields}, peak=0.1, steps=steps)
    return [schedule(step) for step in range(steps)]


def test_linear_falls_from_the_peak_by_the_same_amount_each_step() -> None:
    assert rates(4) == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_warm_up_reaches_the_peak_with_its_last_step() -> None:
    assert rates(10, warmup_ratio=0.25)[:5] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.1 * 6 / 7])


def test_cosine_is_half_way_in_the_middle() -> None:
    found = rates(100, kind="cosine")
    assert (found[0], found[50]) == pytest.approx((0.1, 0.05))
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 1e-4


def test_constant_stays_after_its_warm_up() -> None:
    assert rates(4, kind="constant", warmup_ratio=0.5) == pytest.approx([0.05, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
def test_every_step_learns_something_and_never_above_the_peak(kind: str, warmup: float) -> None:
    for steps in (1, 2, 7, 100):
        assert all(0 < rate <= 0.1 + 1e-12 for rate in rates(steps, kind=kind, warmup_ratio=warmup))


@pytest.mark.parametrize(("kind", "make"), [("linear", "linear"), ("cosine", "cosine")])
def test_the_schedule_is_that_of_transformers(kind: str, make: str) -> None:
    import transformers

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = getattr(transformers, f"get_{make}_schedule_with_warmup")
    scheduler = schedule(optimizer, num_warmup_steps=0, num_training_steps=20)
    wanted = []
    for _ in range(20):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(20, kind=kind) == pytest.approx(wanted)
