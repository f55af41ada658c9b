"""The projection is the same bits whatever multiplies the matrices."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from src.training.embedded import exact_pca

_POINTS = exact_pca.to_grid(np.random.default_rng(7).normal(size=(3000, 96)) * np.linspace(1, 0.05, 96))

_DIGEST_IN_A_FRESH_PROCESS = """
import hashlib
from src.training.embedded.exact_pca_test import digest
print(digest())
"""


def digest() -> str:
    """SHA-256 of the points projected on 32 axes."""
    basis = exact_pca.principal_axes(_POINTS, kept=32)
    return hashlib.sha256(exact_pca.exact_matmul(_POINTS, basis.vectors).tobytes()).hexdigest()


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "4"},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
    ],
    ids=lambda environment: " ".join(f"{key}={value}" for key, value in environment.items()),
)
def test_bits_do_not_depend_on_threads_or_instruction_set(environment: dict[str, str]) -> None:
    child = subprocess.run(
        [sys.executable, "-c", _DIGEST_IN_A_FRESH_PROCESS],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == digest()


def test_axes_agree_with_the_singular_value_decomposition() -> None:
    basis = exact_pca.principal_axes(_POINTS, kept=5)
    axes = np.linalg.svd(_POINTS, full_matrices=False)[2][:5]
    agreement = np.abs(np.sum(axes * basis.vectors.T / exact_pca.VECTOR_GRID, axis=1))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)


def test_sign_is_fixed_by_the_largest_component() -> None:
    vectors = exact_pca.principal_axes(_POINTS, kept=8).vectors
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(8)]
    assert np.all(largest > 0)


def test_a_product_that_float64_might_round_is_refused() -> None:
    with pytest.raises(OverflowError, match="coarser grid"):
        exact_pca.exact_matmul(np.full((1, 4), 2.0**26), np.full((4, 1), 2.0**26))


def test_order_of_additions_changes_no_bit() -> None:
    shuffled = np.random.default_rng(1).permutation(len(_POINTS))
    straight = exact_pca.exact_matmul(np.ascontiguousarray(_POINTS.T), _POINTS)
    mixed = exact_pca.exact_matmul(np.ascontiguousarray(_POINTS[shuffled].T), _POINTS[shuffled])
    assert np.array_equal(straight, mixed)
