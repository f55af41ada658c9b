"""The files of a split become one, where the training looks for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from src.cli.errors import RequestError
from src.rules import finetune


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
