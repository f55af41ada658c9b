"""Operators of torch that its classic ONNX exporter lacks, or writes wrongly, in terms of those that ONNX has."""

from __future__ import annotations

from typing import Any

import torch
from torch.onnx import register_custom_op_symbolic, symbolic_helper

# onnxruntime compares and adds in float32.
_FLOAT32_EPSILON = torch.finfo(torch.float32).eps


def register_operators(opset: int) -> None:
    """Makes the exporter use these; again does no harm."""
    register_custom_op_symbolic("aten::rms_norm", _rms_norm, opset)
    register_custom_op_symbolic("aten::repeat_interleave", _repeat_interleave, opset)


def _rms_norm(graph: Any, values: Any, shape: Any, weight: Any, epsilon: Any) -> Any:
    """x / sqrt(mean(x^2) + epsilon) * weight, the mean over the last axes, as many as `shape` has."""
    axes = [-1 - axis for axis in range(len(symbolic_helper._get_const(shape, "is", "normalized_shape")))]
    given = symbolic_helper._get_const(epsilon, "f", "eps")
    epsilon = graph.op("Constant", value_t=torch.tensor(_FLOAT32_EPSILON if given is None else given))
    squares = graph.op("ReduceMean", graph.op("Mul", values, values), axes_i=axes, keepdims_i=1)
    normed = graph.op("Div", values, graph.op("Sqrt", graph.op("Add", squares, epsilon)))
    return normed if symbolic_helper._is_none(weight) else graph.op("Mul", normed, weight)


def _repeat_interleave(graph: Any, values: Any, repeats: Any, dim: Any = None, output_size: Any = None) -> Any:
    """Each entry of the last axis `repeats` times in a row, as some rotary embeddings need it.

    torch's own flattens too many axes where it does not know their lengths; it still takes all other cases.
    """
    from torch.onnx._internal.torchscript_exporter import symbolic_opset13

    rank, count = symbolic_helper._get_tensor_rank(values), symbolic_helper._maybe_get_const(repeats, "t")
    axis = None if symbolic_helper._is_none(dim) else symbolic_helper._get_const(dim, "i", "dim")
    if rank is None or axis not in (-1, rank - 1) or not isinstance(count, torch.Tensor) or count.numel() != 1:
        return symbolic_opset13.repeat_interleave(graph, values, repeats, dim, output_size)
    columns = symbolic_helper._unsqueeze_helper(graph, values, [rank])
    copies = graph.op("Concat", *[columns] * int(count), axis_i=rank)
    # 0 keeps the length of an axis; -1 is what is left, so the last two.
    return graph.op("Reshape", copies, graph.op("Constant", value_t=torch.tensor([0] * (rank - 1) + [-1])))
