"""AdamW for an embedding, at the cost of the rows a step touches.

A batch of bert-tiny touches some 200 of 30,522 rows, but dense AdamW (Loshchilov and Hutter 2019) walks over all of
them three times a step: a row without a gradient still moves, by its decaying momentum, and decays. Here such a row
waits. It moves when it is next read, by the sum of all the steps it has missed, which has a closed form: without one
m_{s+j} = b1^j m_s and v_{s+j} = b2^j v_s, so step s+j moves it by

    -c_{s+j} r^j m_s / (sqrt(v_s) + eps),   c_i = lr_i sqrt(1 - b2^i) / (1 - b1^i),   r = b1 / sqrt(b2).

The learning-rate schedule is known in advance, hence so are the tails q_s = sum_{j>=1} c_{s+j} r^j, and what a row
missed between s and t is q_s - r^(t-s) q_t. The difference to dense AdamW is in how eps and weight decay of at most
lr * weight_decay meet the missed moves: second-order terms, which deferred_adamw_test compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from src.training.optimizer.exact_sqrt import exact_sqrt
from src.training.optimizer.shared_memory import shared_zeros

_BETA1, _BETA2 = 0.9, 0.999
_EPS = 1e-8
_DECAY_RATIO = _BETA1 / math.sqrt(_BETA2)


class DeferredAdamW:
    """AdamW over one embedding, some rows at a time.

    `catch_up` on the rows that a forward pass reads before it, `step` after each backward pass, `catch_up` on all rows
    before anything else reads the weights. Weights and state are in memory that processes forked later share; each
    takes rows of its own.
    """

    def __init__(
        self,
        weight: torch.nn.Parameter,
        *,
        learning_rate: Callable[[int], float],
        steps: int,
        weight_decay: float,
    ) -> None:
        """Starts at step 0.

        Args:
            weight: the embedding, float32 [rows, width]; is moved to shared memory.
            learning_rate: learning rate of a step, from 0.
            steps: maximum number of steps.
            weight_decay: AdamW's, applied to every row at every step.
        """
        self.weight = weight
        values = shared_zeros(*weight.shape)
        values.copy_(weight.detach())
        weight.data = values
        self._mean = shared_zeros(*weight.shape)
        self._square = shared_zeros(*weight.shape)
        # Steps that a row has gone through, int64 [rows].
        self._seen = shared_zeros(len(weight), dtype=torch.int64)
        rates = [learning_rate(step) for step in range(steps)]
        self._moves, self._tails, self._decays = _coefficients(rates, weight_decay)

    def catch_up(self, rows: torch.Tensor, *, done: int) -> None:
        """Brings rows that a batch reads up to date.

        Args:
            rows: int64, each once.
            done: steps done.
        """
        rows = rows[self._seen[rows] < done]
        if not len(rows):
            return
        seen = self._seen[rows]
        missed = (done - seen).double()
        moves = self._tails[seen] - _DECAY_RATIO**missed * self._tails[done]
        decays = self._decays[done] / self._decays[seen]
        mean, square = self._mean[rows], self._square[rows]
        with torch.no_grad():
            moved = self.weight[rows] * decays.float().unsqueeze(1)
            moved -= moves.float().unsqueeze(1) * mean / (exact_sqrt(square) + _eps(done))
            self.weight.index_copy_(0, rows, moved)
        self._mean.index_copy_(0, rows, mean * (_BETA1**missed).float().unsqueeze(1))
        self._square.index_copy_(0, rows, square * (_BETA2**missed).float().unsqueeze(1))
        self._seen[rows] = done

    def step(self, rows: torch.Tensor, gradient: torch.Tensor, *, done: int) -> None:
        """Takes one step of rows that are up to date.

        Args:
            rows: int64, each once.
            gradient: [rows, width].
            done: steps done before.
        """
        decay = float(self._decays[done + 1] / self._decays[done])
        mean = self._mean[rows].mul_(_BETA1).add_(gradient, alpha=1 - _BETA1)
        square = self._square[rows].mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        with torch.no_grad():
            moved = self.weight[rows].mul_(decay)
            moved.addcdiv_(mean, exact_sqrt(square).add_(_eps(done + 1)), value=-float(self._moves[done + 1]))
            self.weight.index_copy_(0, rows, moved)
        self._mean.index_copy_(0, rows, mean)
        self._square.index_copy_(0, rows, square)
        self._seen[rows] = done + 1

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint. Rows are not caught up for it: that would change later rounding."""
        return {"mean": self._mean, "square": self._square, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._seen.copy_(state["seen"])


def _eps(done: int) -> float:
    # torch divides by sqrt(v) / sqrt(1 - b2^t) + eps; here the first factor is in `_moves`.
    return _EPS * math.sqrt(1 - _BETA2 ** max(1, done))


def _coefficients(rates: list[float], weight_decay: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns c_i, q_i and the product of decays up to step i, each float64 [steps + 1], from step 0: none taken."""
    moves = [0.0]
    decays = [1.0]
    for step, rate in enumerate(rates, 1):
        moves.append(rate * math.sqrt(1 - _BETA2**step) / (1 - _BETA1**step))
        decays.append(decays[-1] * (1 - rate * weight_decay))
    tails = [0.0]
    for move in reversed(moves[1:]):
        tails.append(_DECAY_RATIO * (move + tails[-1]))
    return (
        torch.tensor(moves, dtype=torch.float64),
        torch.tensor(tails[::-1], dtype=torch.float64),
        torch.tensor(decays, dtype=torch.float64),
    )
