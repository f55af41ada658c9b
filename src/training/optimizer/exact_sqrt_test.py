"""The optimizer's square root is the correctly rounded one."""

from __future__ import annotations

import numpy as np
import torch

from src.training.optimizer.exact_sqrt import exact_sqrt


def test_every_root_is_the_correctly_rounded_one() -> None:
    values = torch.rand(1_000_003, generator=torch.Generator().manual_seed(1))
    # float64's root of a float32, rounded once more, is correctly rounded (Figueroa 1995).
    exact = np.sqrt(values.double().numpy()).astype(np.float32)
    assert np.array_equal(exact_sqrt(values).numpy(), exact)


def test_shape_and_zeros_stay_and_the_input_is_not_written_to() -> None:
    values = torch.tensor([[0.0, 4.0], [9.0, 0.25]])
    assert exact_sqrt(values).tolist() == [[0.0, 2.0], [3.0, 0.5]]
    assert values[0, 1] == 4.0
    assert exact_sqrt(torch.empty(0, 7)).shape == (0, 7)
