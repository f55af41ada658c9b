"""A file of rows in, the same rows with what a model predicts of each out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError
from src.disk.durable import write_whole
from src.training.data.class_labels import ClassLabels
from src.training.data.files import file_kind_fault, read_file
from src.training.data.joined_columns import with_joined_columns
from src.training.data.labels import Label, Labels
from src.training.data.multi_labels import MultiLabels
from src.training.data.one_hot import with_lists
from src.training.data.read_options import ReadOptions
from src.training.data.row_faults import is_blank
from src.training.data.rows import keep_texts
from src.training.data.tables import Table, choose_text
from src.training.data.value_labels import ValueLabels
from src.training.inference.model_folder import TrainedModel
from src.training.inference.pairs import Text

OUTPUT_KINDS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class RowsToScore:
    """Rows of a file.

    Attributes:
        table: all of their columns.
        texts: of each row, or both of its texts.
        labels: by row, those that the model knows.
        unknown: labels that it does not know, by row.
    """

    table: Table
    texts: tuple[Text, ...]
    labels: dict[int, Label]
    unknown: dict[int, Any]


def check_files(input_file: Path, output_file: Path) -> None:
    """Refuses files that cannot be read or written, before any is.

    Raises:
        RequestError: with what is wrong.
    """
    if (fault := file_kind_fault(input_file.name)) is not None:
        raise RequestError(f"--input_file {input_file} {fault}")
    if not input_file.is_file():
        raise RequestError(f"--input_file {input_file} does not exist")
    if not output_file.name.lower().endswith(OUTPUT_KINDS):
        raise RequestError(f"--output_file {output_file} must end in {', '.join(OUTPUT_KINDS)}")
    if not output_file.parent.is_dir():
        raise RequestError(f"--output_file {output_file}: there is no folder {output_file.parent}: make it first")
    if output_file.is_dir() or output_file.resolve() == input_file.resolve():
        raise RequestError(f"--output_file {output_file} exists already: name another file")


def read_rows_to_score(
    path: Path, *, source: TrainedModel, options: ReadOptions, text: str | None, pair: str | None, label: str | None
) -> RowsToScore:
    """Reads a file.

    Args:
        path: of a kind that training reads.
        source: the model, which knows the columns that it was trained on.
        options: what the user says of the file.
        text: the text column; None: that of the training if it is there, else the only other one.
        pair: the column with the second text; None: that of the training.
        label: the label column; None: that of the training if it is there.

    Raises:
        RequestError: it cannot be read, lacks a column, or has rows without text.
    """
    table = read_file(path, options)
    pair = pair or source.text_pair_column
    given = tuple(table.columns)
    if text is None and source.text_column is not None and _has_texts(table, source.text_column):
        text = source.text_column
    if label is None and source.label_column in table.columns:
        label = source.label_column
    skip = options.skip_bad_rows
    table = with_joined_columns(table, text, delimiter=source.text_column_delimiter, skip_bad_rows=skip)
    text = choose_text(table, text=text, pair=pair, label=label)
    columns = [text] if pair is None else [text, pair]
    table = keep_texts(table, columns, skip=skip)
    texts: list[Text] = table.columns[text]
    if pair is not None:
        texts = list(zip(table.columns[text], table.columns[pair], strict=True))
    labelled = table
    if label is None and source.is_multi_label and set(source.class_names) <= set(given):
        label, labelled = source.label_column, with_lists(table, source.class_names, into=source.label_column)
    known, unknown = ({}, {}) if label is None else _labels(labelled, label, source)
    table = replace(table, columns={name: table.columns[name] for name in given})
    return RowsToScore(table=table, texts=tuple(texts), labels=known, unknown=unknown)


def _has_texts(table: Table, name: str) -> bool:
    """Whether there is such a column, or all of those that it joins."""
    return name in table.columns or all(part.strip() in table.columns for part in name.split(","))


def _labels(table: Table, column: str, source: TrainedModel) -> tuple[dict[int, Label], dict[int, Any]]:
    """Returns, by row, the labels that the model knows, and those that it does not know."""
    kind = _kind(source)
    names = table.class_names.get(column)
    known: dict[int, Label] = {}
    unknown: dict[int, Any] = {}
    for row, given in enumerate(table.columns[column]):
        # datasets hides labels as -1, and has names for the others.
        if is_blank(given) or (names is not None and given == -1):
            continue
        label = given if names is None else _named(given, names)
        parsed = kind.parse(label)
        if parsed is None:
            unknown[row] = label
        else:
            known[row] = parsed
    return known, unknown


def _named(label: Any, names: Sequence[str]) -> Any:
    if isinstance(label, list):
        return [_named(member, names) for member in label]
    return names[label] if label in range(len(names)) else label


def _kind(source: TrainedModel) -> Labels:
    if source.is_multi_label:
        return MultiLabels(source.class_names)
    return ValueLabels(source.class_names[0]) if source.is_regression else ClassLabels(source.class_names)


def refuse_taken_columns(table: Table, answer: Mapping[str, Any]) -> None:
    """Refuses rows that have a column already that an answer like this would add.

    Raises:
        RequestError: with its name.
    """
    if taken := [name for name in _flat(answer) if name in table.columns]:
        raise RequestError(f"{table.origin} has the columns {', '.join(taken)} already: rename or remove them")


def write_scored(path: Path, table: Table, answers: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows with what was predicted of them, in their order: all at once, or nothing.

    Args:
        path: of one of the OUTPUT_KINDS.
        table: the rows.
        answers: of each row; what they hold becomes the columns predicted_NAME, and scores score_CLASS.

    Raises:
        RequestError: the file cannot be written.
    """
    added = [_flat(answer) for answer in answers]
    columns = table.columns | {name: [row[name] for row in added] for name in added[0]}
    try:
        write_whole(path, _content(path, columns))
    except OSError as error:
        raise RequestError(f"--output_file {path} cannot be written: {error.strerror}") from error


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    scores = answer.get("scores", {})
    told = {f"predicted_{name}": value for name, value in answer.items() if name != "scores"}
    return told | {f"score_{name}": score for name, score in scores.items()}


def _content(path: Path, columns: Mapping[str, list[Any]]) -> bytes:
    kind = path.suffix.lower()
    rows = zip(*columns.values(), strict=True)
    if kind == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table(dict(columns)), sink)
        return bytes(sink.getvalue())
    if kind == ".jsonl":
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode()
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="\t" if kind == ".tsv" else ",", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value
