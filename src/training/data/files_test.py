"""Files as users write them, and the refusal of those that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.files import read_file
from src.training.data.read_options import ReadOptions

GZIPPED = gzip.compress(b"text,label\na film,1\n" * 100)

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"


def columns(folder: Path, name: str, content: str | bytes, **options: Any) -> dict[str, list[Any]]:
    """Writes a file and reads it back."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file(path, ReadOptions(**options)).columns


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
    with pytest.raises(RequestError, match=f"{name}.* directory"):
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
        (
            "a.csv",
            b"text,label\na film,1\nb,c,d\nb,1\ne\n",
            "line 3: 3 values for 2 columns; line 5: 1 value for 2",
        ),
        (
            "a.csv",
            b"text,label\n\xe7a va,1\n",
            "a.csv, line 2: .* --encoding cp1252 .* reads it as 'ça va,1'",
        ),
        ("a.csv", b"text,label\na,0\n\x93so\x94,1\n", "a.csv, line 3: .* not UTF-8: --encoding cp1252 .* as '“so”,1'"),
        ("a.csv", "текст,label\nкино,1\n".encode("cp1251"), "a.csv, line 1: .* not UTF-8: .* cp1251"),
        ("a.jsonl", b'{"text": "\xe7a"}', "a.jsonl, line 1: the byte 0xe7 is not UTF-8: --encoding cp1252"),
        ("a.csv", "text,label\na,1\n".encode("utf-16")[:-1], "a.csv, line 2: the byte 0x0a is not utf-16"),
        ("a.csv", b'text,label\n"a film,1\nb,0\n', "a.csv, line 2: a quote opens here and is never closed"),
        ("a.csv", b'text,label\nb,0\n"a "film",1\n', "a.csv, line 3: text follows a closing quote"),
        ("a.csv", b'text,label\nb,0\n"a,1\nc,1\n"d,0\n', "a.csv, line 3: a quote opens here, .* in line 5"),
        (
            "a.csv",
            b'text,label\nb,1\n"a,1\nc,0\nd",1\n',
            "a.csv, line 3: a quoted value of 3 lines holds",
        ),
        ("a.tsv", b'text\tlabel\n"a\t1\n"b"\t0\n', "a.tsv, line 2: a quote opens here, .* in line 3"),
        ("a.tsv", b'text\tlabel\n"x\t1\n0"\tneg\nb\tpos\n', "a.tsv, line 2: a quoted value of 2 lines holds"),
        ("a.csv", b"text,label,\na,1,\nb,c,0\n", "a.csv, line 3: '0' is in column 3, which has no name"),
        ("a.csv", b"a;b|c\nd;e|f\n", r"a.csv may be parted by a ';' or a '\|': name it with --delimiter"),
        ("a.csv", b"a;b\nc;d\ne\n", "a.csv looks as if .* parted by a ';', but .* line 3: 1 value for 2 columns"),
        ("a.txt", b"a fine film\na poor film\n", "a.txt has one column only: its first line must name columns"),
        ("a.xlsx", b"PK", "a.xlsx is a spreadsheet: save it as csv"),
        ("a.csv", b"PK\x03\x04more", "a.csv is a zip archive or a spreadsheet: unpack it"),
        ("a.csv", b"PAR1more", "a.csv is a parquet file: end its name in .parquet"),
        ("a.csv", LFS_POINTER, "a.csv is a pointer of Git LFS, not the file itself"),
        ("a.parquet", LFS_POINTER, "a.parquet is a pointer of Git LFS, not the file itself"),
        ("a.csv", b"\n<!DOCTYPE html>\n<p>Not, found</p>\n", "a.csv is a web page"),
        ("a.csv", b'{"text": "a", "label": 1}\n', "a.csv holds JSON: end its name in .jsonl"),
        ("a.csv", b"text,label\na,1\nb\0,0\nc,1\n\0\0", "a.csv, lines 3 and 5: holds the character NUL"),
        ("a.csv", b"text,label\0\na,1\n", "a.csv, line 1: holds the character NUL"),
        ("a.jsonl", b'{"text": "a"},\n{"text": "b"}\n', "a.jsonl, line 1: ends with a comma, as lines of an array"),
        ("a.json", b'{"data": []}', "a.json has no rows"),
        ("a.docx", b"PK", "a.docx must end in .csv, .tsv"),
        ("a.csv", b"", "a.csv has no rows"),
        ("a.csv", b"\n\n", "a.csv has no rows"),
        ("a.jsonl", b"", "a.jsonl has no rows"),
        ("a.parquet", b"", "a.parquet is not a complete parquet file .*0 bytes"),
        ("my.own.csv.gz", b"", "my.own.csv.gz has no rows"),
        ("a.csv.gz", b"text,label\na,1\n", "a.csv.gz is not gzipped, or not all of it is there"),
        ("a.csv.gz", GZIPPED[:-9], "a.csv.gz is not gzipped, or not all of it is there"),
        ("a.csv", b"text,label\n", "a.csv has no rows: it must have a header and at least one row"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": "b"\n[1]\n',
            "line 2: is not JSON: .*; line 3: is not an object",
        ),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d b"}', "a.jsonl, line 2: text holds half of a character"),
        ("a.jsonl", b'{"text": "a", "text": "b"}', "a.jsonl, line 1: two values have the same name"),
        ("a.jsonl", b'{"text": "a", "more": {"b": 1, "b": 2}}', "line 1: two values have the same name in b, b"),
        ("a.json", b"[" * 100_000, "a.json is not JSON: it is nested too deeply"),
        ("a.json", b'[{"text": "a"}, 5]', "a.json, row 2: is not an object"),
        (
            "a.json",
            b'[{"text": "a"},\n{"text" "b"}]',
            "a.json is not JSON: .* at line 2, column 9",
        ),
        ("a.json", b'{"data": [{"text": "a"}], "more": [{"text": "b"}]}', "a.json holds rows under data, more"),
        ("a.json", b'{"text": ["a", "b"], "label": [1, 0]}', "a.json holds columns .text, label., not rows"),
        ("a.jsonl", b'["a film", 1]', "a.jsonl, rows 1 and 2: is not an object"),
        ("a.parquet", b"text,label\na film,1\n", "a.parquet is not a complete parquet file"),
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
        with pytest.raises(RequestError, match="two columns have the same name .*in text, text, label"):
            columns(tmp_path, name, content or (tmp_path / name).read_bytes())


def test_json_may_be_one_array(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.json", '[{"text": "a film", "label": 1}, {"text": "b"}]') == {
        "text": ["a film", "b"],
        "label": [1, None],
    }


def test_a_string_in_json_stays_a_string(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.jsonl", '{"text": "2020-01-01", "label": 1}\n')["text"] == ["2020-01-01"]


WANTED = {"text": ["a film, “fine”", "b"], "label": ["1", "0"]}
ROWS = [{"text": "a film, “fine”", "label": "1"}, {"text": "b", "label": "0"}]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_unicode_is_told_from_the_bytes(tmp_path: Path, encoding: str) -> None:
    assert columns(tmp_path, "a.csv", 'text,label\n"a film, “fine”",1\nb,0\n'.encode(encoding)) == WANTED
    assert columns(tmp_path, "a.ndjson", "\n".join(map(json.dumps, ROWS)).encode(encoding)) == WANTED


def test_another_encoding_is_used_where_it_is_named(tmp_path: Path) -> None:
    content = "text\tlabel\na film, “fine”\t1\nb\t0\n".encode("cp1252")
    assert columns(tmp_path, "a.tsv", content, encoding="cp1252") == WANTED


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", "text;label\na film, “fine”;1\nb;0\n", {}),
        ("a.csv", "sep=;\ntext;label\na film, “fine”;1\nb;0\n", {}),
        ("a.csv", "text\tlabel\na film, “fine”\t1\nb\t0\n", {}),
        ("a.tsv", 'text,label\n"a film, “fine”",1\nb,0\n', {}),
        ("a.txt", "text|label\na film, “fine”|1\nb|0\n", {}),
        ("a.csv", "text^label\na film, “fine”^1\nb^0\n", {"delimiter": "^"}),
        ("a.csv", 'text,label,\n"a film, “fine”",1,\nb,0,\n', {}),
        ("a.csv", 'text,label\n"a film, “fine”",1,,\nb,0,,\n', {}),
        ("a.csv", 'text,label,,\n"a film, “fine”",1\nb,0\n', {}),
        ("a.csv", ',text,label\n0,"a film, “fine”",1\n1,b,0\n', {}),
        ("a.csv", 'text, label\n"a film, “fine”",1\n   \nb,0\n\n', {}),
        ("a.csv", 'text,label\n"a film, “fine”",1\nb,0\nc,d,e\nf\n', {"skip_bad_rows": True}),
        ("a.jsonl", "\n".join([json.dumps(ROWS[0]), '{"te', "5", json.dumps(ROWS[1])]), {"skip_bad_rows": True}),
        ("a.json", json.dumps({"version": 1, "data": ROWS}), {}),
        ("a.json", json.dumps({"data": ROWS}, indent=1), {}),
        ("a.json", "\n".join(json.dumps(row, indent=1) for row in ROWS), {}),
        ("a.jsonl", "\n".join(json.dumps(row, indent=1) for row in ROWS), {}),
        ("a.csv", gzip.compress('text,label\n"a film, “fine”",1\nb,0\n'.encode()), {}),
    ],
)
def test_what_other_programs_write_is_read(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, Any]
) -> None:
    assert columns(tmp_path, name, content, **options) == WANTED


def test_the_turns_of_a_conversation_are_not_taken_for_rows(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for content in (json.dumps(row), json.dumps(row, indent=1)):
        assert columns(tmp_path, "a.json", content) == {"messages": [row["messages"]]}


def test_stray_quotes_between_tabs_are_characters(tmp_path: Path) -> None:
    texts = [f'"item {at}' if at in (5, 17) else f"item {at}" for at in range(30)]
    content = "text\tlabel\n" + "".join(f"{text}\t1\n" for text in texts)
    assert columns(tmp_path, "a.tsv", content)["text"] == texts


def test_a_value_that_looks_like_rows_is_read_as_the_user_says(tmp_path: Path) -> None:
    content = 'text,label\nb,1\n"a,1\nc,0\nd",1\n'
    assert columns(tmp_path, "a.csv", content, quoting="minimal")["text"] == ["b", "a,1\nc,0\nd"]
    assert columns(tmp_path, "a.csv", 'text,label\n"b,1\nc,0\n', quoting="none")["text"] == ['"b', "c"]


def test_the_class_names_that_datasets_keeps_in_a_parquet_file_are_kept(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    features = {"text": {"_type": "Value"}, "label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["a film", "b"], "label": [1, -1], "__index_level_0__": [0, 1]})
    for described, names in (({"info": {"features": features}}, {"label": ("neg", "pos")}), ([1], {})):
        described_table = table.replace_schema_metadata({"huggingface": json.dumps(described)})
        parquet.write_table(described_table, tmp_path / "a.parquet")
        read = read_file(tmp_path / "a.parquet")
        assert (read.class_names, list(read.columns)) == (names, ["text", "label"])


def test_the_class_names_of_lists_in_a_parquet_file_are_kept(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    label = {"names": ["late", "rude"], "_type": "ClassLabel"}
    for feature in ([label], {"feature": label, "_type": "List"}, {"feature": label, "_type": "Sequence"}):
        metadata = {"huggingface": json.dumps({"info": {"features": {"tags": feature}}})}
        table = pa.table({"text": ["a film"], "tags": [[0, 1]]}).replace_schema_metadata(metadata)
        parquet.write_table(table, tmp_path / "a.parquet")
        assert read_file(tmp_path / "a.parquet").class_names == {"tags": ("late", "rude")}


def test_values_that_python_has_no_type_for_do_no_harm_in_a_parquet_file(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "text": [b"a film", "déjà".encode()],
            "picture": [b"\xff\xd8", b"b"],
            "far": pa.array([2**61, 0], pa.timestamp("us")),
            "there": pa.array([0, None], pa.timestamp("s", tz="Nowhere/Town")),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    read = read_file(tmp_path / "a.parquet").columns
    assert (read["text"], read["picture"]) == (["a film", "déjà"], [b"\xff\xd8", b"b"])
    assert (read["far"][1], read["there"]) == ("1970-01-01T00:00:00.000000", ["1970-01-01T00:00:00.000", None])


def test_text_in_a_parquet_file_that_is_no_utf8_is_refused_with_its_column(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"caf\xe9", b"b"]).buffers())
    parquet.write_table(pa.table({"label": [0, 1], "text": bad}), tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=r"a.parquet, column text holds text that is not UTF-8 \(b'caf.xe9'\)"):
        read_file(tmp_path / "a.parquet")
