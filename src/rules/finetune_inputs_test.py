"""The files of a split become one, where the training looks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from src.cli.errors import EXIT_STOPPED, RequestError
from src.rules import finetune
from src.training import train_model


def test_rows_in_several_files_are_those_of_one(tmp_path: Path) -> None:
    rows = pa.table({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    parts = [tmp_path / f"train-{part}.parquet" for part in range(2)]
    for part, path in enumerate(parts):
        parquet.write_table(rows.slice(2 * part, 2), path)
    finetune.place_inputs(tmp_path / "inputs", {"data/train-0.parquet": parts, "data/test.parquet": parts[:1]})
    assert parquet.read_table(tmp_path / "inputs/data/train-0.parquet").equals(rows)
    assert (tmp_path / "inputs/data/test.parquet").readlink() == parts[0]


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    parts = [tmp_path / f"{column}.parquet" for column in ("label", "stars")]
    for path in parts:
        parquet.write_table(pa.table({"text": ["a"], path.stem: [0]}), path)
    with pytest.raises(RequestError, match=r"stars.parquet and label.parquet differ in the names or types"):
        finetune.place_inputs(tmp_path, {"train.parquet": parts})


def test_numpy_has_its_settings_before_files_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(finetune, "prepare_environment", calls.append)
    monkeypatch.setattr(finetune, "place_inputs", lambda _folder, inputs: calls.append([*inputs]))
    monkeypatch.setattr(train_model, "train", lambda _flags: EXIT_STOPPED)
    monkeypatch.setattr("os.environ", {**os.environ})
    (tmp_path / "run").mkdir()
    command = [f"--model={tmp_path}/model", f"--run={tmp_path}/run", "--input", "rows.parquet", "0", "1", "--"]
    assert finetune.main(command) == EXIT_STOPPED
    assert calls == ["portable", ["rows.parquet"]]
