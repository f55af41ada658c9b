"""Before against after on the same examples: whether the difference is more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

_SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same examples, by a paired test. It covers no other seeds and no other data.

    Attributes:
        better: examples on which the second is the better one.
        worse: examples on which the first is.
        p_value: two-sided, of the test.
        test: name of the test, for metrics.json.
    """

    better: int
    worse: int
    p_value: float

    test: ClassVar[str]

    @property
    def is_significant(self) -> bool:
        """Whether the p value is below 5 %."""
        return self.p_value < _SIGNIFICANCE

    @property
    def is_better(self) -> bool:
        """Whether the second is the better one, be it by noise."""
        return self.better > self.worse

    @property
    def p_text(self) -> str:
        """The p value to three digits, as it follows `p`."""
        return "< 0.001" if self.p_value < 0.001 else f"= {self.p_value:.3f}"

    @property
    def verdict(self) -> str:
        """One clause: better, worse, or noise."""
        if not self.is_significant:
            return "the difference may well be noise"
        return f"{'better' if self.is_better else 'worse'}, by more than noise"

    @property
    def summary(self) -> str:
        """What changed, the verdict and the test, in one clause."""
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as metrics.json holds them."""
        return {"test": self.test, "better": self.better, "worse": self.worse, "p_value": self.p_value}


def require_same_examples(*arrays: np.ndarray) -> None:
    """Raises ValueError unless all arrays have one length: a paired test compares example by example."""
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"a paired test needs the same examples: {', '.join(map(str, lengths))}")
