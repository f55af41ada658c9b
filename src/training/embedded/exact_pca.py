"""Principal components and projections whose bits are the same on every machine.

A floating-point matrix product depends on the order of its additions, hence on the BLAS, the CPU and the number of
threads. Here every product is one of whole numbers whose sums stay below 2**53: float64 holds each intermediate result
exactly, so no order, and no fused multiply-add, can change a bit. One step is inexact, the eigendecomposition; its
vectors are rounded to a grid that is many orders coarser than what machines differ by (`Basis.margin` says how many).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Whole numbers of 2**-16 hold the embeddings (below 2 in size) to 5 digits; products and sums of 30,522 stay exact.
VALUE_GRID = 2.0**16
VECTOR_GRID = 2.0**14
_EXACT = 2.0**53


class Basis(NamedTuple):
    """`vectors`: (width, kept) whole numbers of 1/VECTOR_GRID, columns by falling variance; `explained`: 0 to 1.

    `margin` is the distance of the value nearest to a rounding boundary from it, in units of an eigenvector's length:
    machines get the same bits as long as their eigenvectors differ by less.
    """

    vectors: Array
    explained: float
    margin: float


def to_grid(values: npt.NDArray[Any]) -> Array:
    """Values as whole numbers of 1/VALUE_GRID."""
    return np.rint(np.asarray(values, dtype=np.float64) * VALUE_GRID)


def exact_matmul(left: Array, right: Array) -> Array:
    """Product of two matrices of whole numbers; OverflowError if float64 might not hold a partial sum exactly."""
    if float(np.abs(left).max()) * float(np.abs(right).max()) * left.shape[1] >= _EXACT:
        raise OverflowError("the product is not exact in float64: use a coarser grid")
    return left @ right


def principal_axes(points: Array, kept: int) -> Basis:
    """The `kept` axes along which `points`, (rows, width) whole numbers, vary most about the origin."""
    scatter = exact_matmul(np.ascontiguousarray(points.T), points)
    variances, vectors = np.linalg.eigh(scatter)
    vectors = np.ascontiguousarray(vectors[:, ::-1][:, :kept])
    largest = np.abs(vectors).argmax(axis=0)
    # An eigenvector's sign is arbitrary and differs between LAPACK builds.
    vectors = vectors * np.sign(vectors[largest, np.arange(kept)])
    scaled = vectors * VECTOR_GRID
    to_boundary = 0.5 - np.abs(scaled - np.rint(scaled))
    return Basis(
        vectors=np.rint(scaled),
        explained=float(variances[::-1][:kept].sum() / variances.sum()),
        margin=float(to_boundary.min() / VECTOR_GRID),
    )
