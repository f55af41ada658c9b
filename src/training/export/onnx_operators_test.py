"""Operators that torch's exporter lacks give in onnxruntime what they give in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from src.training.export.onnx_model import OPSET
from src.training.export.onnx_operators import register_operators


class _Repeat(torch.nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        # Lengths that the exporter cannot know, as those of rotary embeddings.
        return values[..., : values.shape[-1] // 2].unsqueeze(1).repeat_interleave(2, dim=self._axis)


def _norm(*, weight: bool, epsilon: float | None) -> torch.nn.Module:
    norm = torch.nn.RMSNorm((3, 4), eps=epsilon, elementwise_affine=weight)
    for values in norm.parameters():
        torch.nn.init.normal_(values)
    return norm


@pytest.mark.parametrize(
    "module",
    [_norm(weight=True, epsilon=0.1), _norm(weight=False, epsilon=None), _Repeat(-1), _Repeat(3), _Repeat(1)],
    ids=["norm", "bare norm", "last axis", "last axis by number", "other axis"],
)
def test_an_operator_says_the_same(module: torch.nn.Module, tmp_path: Path) -> None:
    register_operators(OPSET)
    path, values = tmp_path / "it.onnx", torch.randn(2, 3, 4)
    axes = {"values": {0: "batch"}}
    torch.onnx.export(
        module, (values,), path, dynamo=False, opset_version=OPSET, input_names=["values"], dynamic_axes=axes
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for given in (values, torch.randn(5, 3, 4) * 1e-4):
        (found,) = session.run(None, {"values": given.numpy()})
        np.testing.assert_allclose(found, module(given).detach().numpy(), rtol=1e-5)
