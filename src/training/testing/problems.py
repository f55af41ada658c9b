"""One problem of each kind, for tests of what does not depend on the kind."""

from __future__ import annotations

from src.training.problems.classification.problem import Classification
from src.training.problems.regression.problem import Regression

CLASSES = Classification(class_names=("bad", "good"))
WEIGHTED_CLASSES = Classification(class_names=("bad", "good", "odd"), class_weights=(0.5, 1.0, 8.0))
VALUES = Regression(label_name="score")
