"""Exports a trained model to an ONNX file and compares the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from src.cli.errors import RequestError, in_one_line
from src.disk.durable import file_sha256
from src.training.export.agreement import CheckRows, compare, require_same, require_share
from src.training.export.onnx_model import OPSET, OUTPUT, OnnxClassifier, RuntimeFault, quantize, write_onnx
from src.training.inference.classifier import Classifier, load_classifier
from src.training.inference.model_folder import TrainedModel


def export_checked(
    path: Path, *, source: TrainedModel, rows: CheckRows, min_int8_agreement: float | None
) -> dict[str, Any]:
    """Exports a model and compares it with the original. Sets torch to one thread, so that the times compare.

    Args:
        path: of the file to write, in a folder of its own.
        source: the trained model.
        rows: to compare on.
        min_int8_agreement: minimum fraction of equal predictions after quantization; None: no quantization.

    Returns:
        What FILE.onnx.json holds.

    Raises:
        RequestError: ONNX has no form of it.
        Disagreement: the exported model differs. The file is written all the same.
    """
    torch.set_num_threads(1)
    traced = load_classifier(source, attention="eager")
    try:
        write_onnx(traced, path)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
        # Operators that ONNX lacks, and code that cannot be traced.
        raise _not_exportable(traced, error) from error
    # With the attention of training and prediction.
    original = load_classifier(source)
    try:
        exported = OnnxClassifier(path, original=original)
        agreement = compare(original, exported, rows)
    except RuntimeFault as error:
        raise _not_exportable(traced, error) from error
    # For int8 as well: an error of the exporter must not pass for one of quantization.
    require_same(agreement)
    if min_int8_agreement is not None:
        full = path.with_name("float32.onnx")
        path.rename(full)
        quantize(full, path)
        full.unlink()
        exported = OnnxClassifier(path, original=original)
        agreement = compare(original, exported, rows)
        require_share(agreement, min_share=min_int8_agreement)
    weights = "float32" if min_int8_agreement is None else "int8"
    return _report(path, source=source, exported=exported, weights=weights) | {
        "check": {"rows_of": rows.origin, **agreement.as_json()}
    }


def _not_exportable(classifier: Classifier, error: Exception) -> RequestError:
    # What it is at, and not where in torch's sources.
    reason = in_one_line(error, limit=400).rpartition("please report a bug to PyTorch. ")[2][:200]
    kind = classifier.model.config.model_type
    return RequestError(f"{classifier.source.folder} is of a kind ({kind}) that ONNX cannot hold: {reason}")


def _report(path: Path, *, source: TrainedModel, exported: OnnxClassifier, weights: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "model": {"folder": source.folder.name, "fingerprint": source.fingerprint},
        "weights": weights,
        "opset": OPSET,
        "sha256": file_sha256(path),
        "inputs": exported.input_names,
        "output": OUTPUT,
        "class_names": list(source.class_names),
        "max_seq_length": source.max_seq_length,
        "bytes": {"original": source.weight_bytes, "onnx": path.stat().st_size},
    }
