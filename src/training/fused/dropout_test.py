"""Dropout's masks: the right share, the right scale, and a function of seed, step and process alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest
import torch

from src.training.fused.dropout import DropoutMasks

NUMBERS = {"seed": 42, "step": 7, "process": 1}


def mask(
    shape: tuple[int, ...] = (1000, 200), probability: float = 0.1, numbers: Mapping[str, int] = NUMBERS
) -> torch.Tensor:
    drawn = DropoutMasks(**numbers).draw(shape, probability)
    assert drawn is not None
    return drawn


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_the_probability_is_that_of_being_dropped(probability: float) -> None:
    drawn = mask(probability=probability)
    deviation = math.sqrt(probability * (1 - probability) / drawn.numel())
    # Rounding the probability to a multiple of 2^-16 is below a deviation here.
    assert float((drawn == 0).double().mean()) == pytest.approx(probability, abs=5 * deviation)


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9])
def test_the_mean_stays_what_it_was(probability: float) -> None:
    drawn = mask(probability=probability)
    [kept] = {float(value) for value in drawn.unique()} - {0.0}
    assert kept == pytest.approx(1 / (1 - probability), rel=2e-4)
    deviation = math.sqrt(probability / (1 - probability) / drawn.numel())
    assert float(drawn.double().mean()) == pytest.approx(1, abs=5 * deviation)


def test_elements_are_independent_of_their_neighbours() -> None:
    # Four of them come out of one random number.
    kept = (mask(probability=0.5).flatten() != 0).double() - 0.5
    for distance in (1, 2, 3, 4, 200):
        together = float((kept[distance:] * kept[:-distance]).mean()) / 0.25
        assert abs(together) < 5 / math.sqrt(len(kept))


def test_the_same_numbers_give_the_same_masks() -> None:
    one, other = (DropoutMasks(**NUMBERS) for _ in range(2))
    for shape, probability in (((3, 5), 0.1), ((64,), 0.5), ((2, 2, 2, 2), 0.1)):
        first, again = one.draw(shape, probability), other.draw(shape, probability)
        assert first is not None and again is not None
        assert torch.equal(first, again)


@pytest.mark.parametrize("name", list(NUMBERS))
def test_another_seed_step_or_process_has_other_masks(name: str) -> None:
    # 2^32 - 1 is the largest seed of a recipe.
    values = [0, 1, 2, 41, 2**32 - 1] if name == "seed" else [0, 1, 2, 41]
    drawn = [mask(numbers={**NUMBERS, name: value}) for value in values]
    for one, other in itertools.combinations(drawn, 2):
        assert float((one == other).double().mean()) == pytest.approx(0.82, abs=0.01)


def test_numbers_in_other_places_are_other_numbers() -> None:
    orders = itertools.permutations((0, 1, 2))
    drawn = [mask(numbers=dict(zip(NUMBERS, order, strict=True))) for order in orders]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(drawn, 2))


def test_what_torch_draws_does_not_matter() -> None:
    state = torch.random.get_rng_state()
    first = mask()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(mask(), first)


def test_a_mask_differs_from_the_one_before() -> None:
    masks = DropoutMasks(**NUMBERS)
    first, second = masks.draw((1000,), 0.5), masks.draw((1000,), 0.5)
    assert first is not None and second is not None
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(1,), (3,), (4, 1), (5, 7), (1, 2, 3, 5), (0, 4)])
def test_a_mask_has_the_shape_that_was_asked_for(shape: tuple[int, ...]) -> None:
    drawn = mask(shape)
    assert (drawn.shape, drawn.dtype, drawn.is_contiguous()) == (shape, torch.float32, True)


@pytest.mark.parametrize("probability", [0.0, 1e-9])
def test_where_nothing_is_dropped_there_is_no_mask(probability: float) -> None:
    masks = DropoutMasks(**NUMBERS)
    assert masks.draw((3, 4), probability) is None
    # And no random number is spent on it.
    following = masks.draw((3, 4), 0.5)
    assert following is not None
    assert torch.equal(following, mask((3, 4), 0.5))


def test_all_machines_draw_these() -> None:
    drawn = mask((32,), 0.5, dict.fromkeys(NUMBERS, 0))
    assert "".join(str(int(value != 0)) for value in drawn) == "01111010111010101100010110111011"
