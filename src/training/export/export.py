"""From a trained model to an ONNX file that was compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from src.disk.durable import file_sha256
from src.training.export.agreement import CheckRows, compare, require_same, require_share
from src.training.export.onnx_model import OPSET, OUTPUT, OnnxClassifier, quantise, write_onnx
from src.training.inference.classifier import load_classifier
from src.training.inference.model_folder import TrainedModel


def export_checked(
    path: Path, *, source: TrainedModel, rows: CheckRows, int8_agreement: float | None
) -> dict[str, Any]:
    """Exports a model and compares it with the original. Sets torch to one thread, so that the times compare.

    Args:
        path: of the file to write, in a folder of its own.
        source: the trained model.
        rows: to compare on.
        int8_agreement: share of the predictions that 8 bits must leave the same; None: no quantisation.

    Returns:
        What FILE.onnx.json holds.

    Raises:
        Disagreement: the exported model is another one. The file is there all the same.
    """
    torch.set_num_threads(1)
    write_onnx(load_classifier(source, attention="eager"), path)
    # As it is used, with the attention that training and prediction have.
    original = load_classifier(source)
    exported = OnnxClassifier(path, original=original)
    agreement = compare(original, exported, rows)
    # Of int8 as well: what quantisation does is not to be taken for what the exporter did.
    require_same(agreement)
    if int8_agreement is not None:
        full = path.with_name("float32.onnx")
        path.rename(full)
        quantise(full, path)
        full.unlink()
        exported = OnnxClassifier(path, original=original)
        agreement = compare(original, exported, rows)
        require_share(agreement, least=int8_agreement)
    weights = "float32" if int8_agreement is None else "int8"
    return _report(path, source=source, exported=exported, weights=weights) | {
        "check": {"rows_of": rows.origin, **agreement.as_json()}
    }


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
