"""A classifier as an ONNX file: exported, quantized, and run."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from src.cli.standard_output import standard_output_to
from src.training.export.onnx_operators import register_operators
from src.training.inference.classifier import Classifier, to_scores

# Supported by onnxruntime's quantizer and every runtime of recent years.
OPSET = 17
OUTPUT = "logits"
# Of different length: from an example without padding the exporter would conclude that there is never any.
_EXAMPLE = ("a good film", "a film that is much longer than it is good, and padded for that reason")


def write_onnx(classifier: Classifier, path: Path) -> None:
    """Exports a model for any number of texts and tokens.

    By torch's classic exporter, which traces the model. Its successor (dynamo=True) needs two more packages, took 7 to
    15 times as long for graphs that are larger and no faster, and scored the same on BERT, RoBERTa, DistilBERT,
    ModernBERT and DeBERTa (torch 2.13, transformers 5.23). What tracing may get wrong, a branch
    that is fixed for good, the check on real rows of many lengths finds.

    Args:
        classifier: loaded with eager attention, which traces to a smaller and faster graph than the fused kind.
        path: of the file.
    """
    names = classifier.input_names
    # Decoders return a cache for further tokens, which no graph can hold.
    classifier.model.config.get_text_config().use_cache = False
    example = next(classifier.batches(_EXAMPLE, batch_size=len(_EXAMPLE)))
    register_operators(OPSET)
    # Of an export that fails, torch prints the whole graph.
    with warnings.catch_warnings(), standard_output_to(Path(os.devnull)):
        # About the branches; see above.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(classifier.model, names).eval(),
            tuple(example[name] for name in names),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names} | {OUTPUT: {0: "batch"}},
        )


class _Logits(torch.nn.Module):
    """A model without its other outputs, some of which (T5's cache) no graph can hold."""

    def __init__(self, model: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self._model, self._names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(**dict(zip(self._names, inputs, strict=True))).logits
        return logits


def quantize(source: Path, target: Path) -> None:
    """Stores weights, embeddings among them, in 8 bits; activations are quantized at run time.

    Strictly in 7 bits: on x86-64 CPUs without VNNI a sum of two products of 8 bits overflows, and a model that
    passed its check here would score differently there.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    # It recommends another program to run first, which changed neither size nor scores.
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, reduce_range=True)
    finally:
        logging.disable(before)


class RuntimeFault(Exception):
    """onnxruntime cannot load a graph, or not run it on some batch."""


class OnnxClassifier:
    """An exported model in onnxruntime, on one CPU thread."""

    def __init__(self, path: Path, *, original: Classifier) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Errors only; warnings are about folded constants.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its exceptions have no base class of their own. The file lies in a folder that is gone soon.
            raise RuntimeFault(str(error).replace(str(path), path.name)) from error
        self._config = original.model.config
        self.input_names = [node.name for node in self._session.get_inputs()]

    def score_batch(self, batch: dict[str, torch.Tensor]) -> np.ndarray:
        """Scores one batch: float32 [texts, classes]."""
        fed = {name: batch[name].numpy() for name in self.input_names}
        try:
            logits = self._session.run([OUTPUT], fed)[0]
        except Exception as error:
            raise RuntimeFault(str(error)) from error
        return to_scores(logits, self._config)
