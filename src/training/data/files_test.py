"""Files as users write them, and the refusal of those that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.files import read_file

GZIPPED = gzip.compress(b"text,label\na film,1\n" * 100)


def columns(folder: Path, name: str, content: str | bytes) -> dict[str, list[Any]]:
    """Writes a file and reads it back."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path).columns


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


def test_empty_lines_and_old_line_ends_do_no_harm(tmp_path: Path) -> None:
    wanted = {"text": ["a film", "b"], "label": ["1", "0"]}
    for content in (
        b"\n\ntext,label\n\na film,1\n\n\nb,0\n\n",
        b"text,label\ra film,1\rb,0",
        b"text,label\r\n\r\na film,1\r\nb,0",
    ):
        assert columns(tmp_path, "a.csv", content) == wanted


def test_json_lines_may_have_a_byte_order_mark_windows_line_ends_and_empty_lines(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n'
    assert columns(tmp_path, "a.jsonl", content) == {"text": ["a", "b"]}


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path: Path) -> None:
    # str.splitlines() takes these for line ends; JSON allows them in a string as they are.
    text = "a\u2028b\u2029c\x85d"
    assert columns(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False))["text"] == [text]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV.GZ", "a.tsv.gz", "a.jsonl.gz", "a.json.gz"])
def test_text_files_may_be_compressed(tmp_path: Path, name: str) -> None:
    kind = name.lower().split(".")[1]
    content = {"csv": "text,label\na film,1\n", "tsv": "text\tlabel\na film\t1\n"}
    packed = gzip.compress(content.get(kind, '{"text": "a film", "label": "1"}').encode())
    assert columns(tmp_path, name, packed) == {"text": ["a film"], "label": ["1"]}


def test_a_text_may_be_longer_than_a_block_of_the_reader(tmp_path: Path) -> None:
    long = "a film " * 300_000
    assert columns(tmp_path, "a.csv", f'text,label\n"{long}",1\nb,0\n')["text"] == [long, "b"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(RequestError, match=f"{name} cannot be read as .* directory"):
        read_file(tmp_path / name)


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
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na film,1\nb,c,d\n", "a.csv cannot be read as csv: .*3"),
        ("a.csv", b"text,label\n\xe7a va,1\n", "a.csv is not UTF-8 text: save it as UTF-8"),
        ("a.csv", b"t\xe9xte,label\na,1\n", "a.csv is not UTF-8 text: save it as UTF-8"),
        ("a.jsonl", b'{"text": "\xe7a"}', "a.jsonl is not UTF-8 text: save it as UTF-8"),
        ("a.tsv", "text\tlabel\na\t1\n".encode("utf-16"), "a.tsv is not UTF-8 text: save it as UTF-8"),
        ("a.csv", b'text,label\n"a film,1\nb,0\n', "a.csv cannot be read as csv: .*Expected 2 columns"),
        ("a.csv", b"", "a.csv cannot be read as csv: Empty CSV file"),
        ("a.csv", b"\n\n", "a.csv cannot be read as csv: .*Empty CSV file"),
        ("a.jsonl", b"", "a.jsonl has no rows"),
        ("a.parquet", b"", "a.parquet cannot be read as parquet: .*0 bytes"),
        ("my.own.csv.gz", b"", "my.own.csv.gz cannot be read as csv: Empty CSV file"),
        ("a.csv.gz", b"text,label\na,1\n", "a.csv.gz cannot be read as csv: .*incorrect header"),
        ("a.csv.gz", GZIPPED[:-9], "a.csv.gz cannot be read as csv: Truncated"),
        ("a.jsonl.gz", GZIPPED[:-9], "a.jsonl.gz cannot be read as jsonl: Compressed file ended"),
        ("a.jsonl.gz", b"{}", "a.jsonl.gz cannot be read as jsonl: Not a gzipped file"),
        ("a.csv", b"text,label\n", "a.csv has no rows: it must have a header and at least one row"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"', "a.jsonl cannot be read as jsonl: line 2: Expecting"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d b"}', "a.jsonl cannot be read as jsonl: row 2: text holds half"),
        (
            "a.jsonl",
            b'{"text": "a", "text": "b"}',
            "a.jsonl cannot be read as jsonl: line 1: two values have the same name",
        ),
        ("a.json", b"[" * 100_000, "a.json cannot be read as json: maximum recursion depth"),
        ("a.jsonl", b'["a film", 1]', "a.jsonl cannot be read as jsonl: every row must be an object"),
        ("a.parquet", b"text,label\na film,1\n", "a.parquet cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        columns(tmp_path, name, content)
    assert "\n" not in str(raised.value)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    arrays = [pa.array(["a film"]), pa.array(["b"]), pa.array([1])]
    parquet.write_table(pa.Table.from_arrays(arrays, names=["text", "text", "label"]), tmp_path / "a.parquet")
    for name, content in (("a.csv", b"text,text,label\na film,b,1\n"), ("a.parquet", None)):
        with pytest.raises(RequestError, match="two columns have the same name in text, text, label"):
            columns(tmp_path, name, content or (tmp_path / name).read_bytes())


def test_json_may_be_one_array(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.json", '[{"text": "a film", "label": 1}, {"text": "b"}]') == {
        "text": ["a film", "b"],
        "label": [1, None],
    }


def test_a_string_in_json_stays_a_string(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.jsonl", '{"text": "2020-01-01", "label": 1}\n')["text"] == ["2020-01-01"]
