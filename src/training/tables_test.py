"""Files as users write them, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.training.errors import RequestError
from src.training.tables import Table, choose_columns, read_file


def columns(folder: Path, name: str, content: str | bytes) -> dict[str, list[Any]]:
    """Writes a file and reads it back."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path).columns


def table(**named: list[Any]) -> Table:
    return Table(origin="my.csv", columns=named, class_names={})


def test_quotes_commas_and_newlines_inside_a_value_are_kept(tmp_path: Path) -> None:
    content = 'text,label\n"good, really ""good""",1\n"two\nlines",0\n'
    assert columns(tmp_path, "a.csv", content) == {"text": ['good, really "good"', "two\nlines"], "label": ["1", "0"]}


def test_every_csv_value_stays_as_written(tmp_path: Path) -> None:
    content = "text,label\n1999,01\nNA,1.0\nnull,true\n,2020-01-01\n"
    assert columns(tmp_path, "a.csv", content) == {
        "text": ["1999", "NA", "null", ""],
        "label": ["01", "1.0", "true", "2020-01-01"],
    }


def test_a_value_that_looks_different_far_into_a_csv_file_is_read(tmp_path: Path) -> None:
    # pyarrow reads in blocks of 1 MB, and takes the types from the first.
    content = "text,label\n" + f"{'1' * 500},1\n" * 3000 + "a film,x\n"
    read = columns(tmp_path, "a.csv", content)
    assert (read["text"][-1], read["label"][-1], len(read["text"])) == ("a film", "x", 3001)


def test_a_quoted_newline_where_two_blocks_of_a_csv_file_meet_is_kept(tmp_path: Path) -> None:
    content = "text,label\n" + '"good\nfilm",1\n' * 100_000
    assert set(columns(tmp_path, "a.csv", content)["text"]) == {"good\nfilm"}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\r\na film,1\r\n") == {"text": ["a film"], "label": ["1"]}


def test_text_beyond_ascii_is_read(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.csv", "text,label\nça va 😀,1\n")["text"] == ["ça va 😀"]


def test_tabs_separate_a_tsv_file(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.TSV", "text\tlabel\na film, good\t1\n") == {"text": ["a film, good"], "label": ["1"]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_lines_keep_their_types(tmp_path: Path, name: str) -> None:
    rows = [{"text": "a film\nof two lines", "label": 1}, {"text": "b", "label": 0}]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert columns(tmp_path, name, content) == {"text": ["a film\nof two lines", "b"], "label": [1, 0]}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a film"], "stars": [5]}), tmp_path / "a.parquet")
    read = read_file(tmp_path / "a.parquet")
    assert (read.columns, read.origin, read.rows) == ({"text": ["a film"], "stars": [5]}, "a.parquet", 1)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"text,label\na film,1\nb,c,d\n", "a.csv cannot be read as csv: .*3"),
        ("a.csv", b"text,label\n\xe7a va,1\n", "a.csv cannot be read as csv: .*UTF8"),
        ("a.csv", b"", "a.csv cannot be read as csv: Empty CSV file"),
        ("a.csv", b"text,label\n", "a.csv has no rows: it must have a header and at least one row"),
        ("a.jsonl", b'{"text": "a"', "a.jsonl cannot be read as jsonl"),
        ("a.jsonl", b'["a film", 1]', "a.jsonl cannot be read as jsonl: every row must be an object"),
        ("a.parquet", b"text,label\na film,1\n", "a.parquet cannot be read as parquet"),
    ],
    ids=["ragged", "not UTF-8", "empty", "header only", "half an object", "an array of no objects", "not parquet"],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    with pytest.raises(RequestError, match=told) as raised:
        columns(tmp_path, name, content)
    assert "\n" not in str(raised.value)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="text"):
        columns(tmp_path, "a.csv", "text,text,label\na film,b,1\n")


def test_json_may_be_one_array(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.json", '[{"text": "a film", "label": 1}, {"text": "b"}]') == {
        "text": ["a film", "b"],
        "label": [1, None],
    }


def test_a_string_in_json_stays_a_string(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.jsonl", '{"text": "2020-01-01", "label": 1}\n')["text"] == ["2020-01-01"]


def test_named_columns_are_taken() -> None:
    assert choose_columns(table(review=["a b"], stars=["1"]), text="review", label="stars") == ("review", "stars")


def test_the_only_other_column_with_text_is_found() -> None:
    rows = table(id=["1", "2"], review=["a film", "b"], score=[0.5, 0.25], label=["x", "y"])
    assert choose_columns(rows, text=None, label="label") == ("review", "label")


def test_missing_columns_are_all_told_with_those_that_are_there() -> None:
    with pytest.raises(RequestError) as raised:
        choose_columns(table(review=["a b"], stars=["1"]), text="text", label="label")
    assert "my.csv has no column 'text' and no column 'label': it has review, stars" in str(raised.value)


def test_two_columns_that_could_be_the_text_have_to_be_told_apart() -> None:
    with pytest.raises(RequestError, match="title, body, label: name the one with text with --text_column_name"):
        choose_columns(table(title=["a b"], body=["c d"], label=["1"]), text=None, label="label")
