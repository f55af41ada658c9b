"""Thousands of small random files: the same rows as Python's csv and pandas read, or a refusal; never other rows."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from src.cli.errors import RequestError
from src.training.data.delimited import read_delimited
from src.training.data.files import read_file
from src.training.data.read_options import ReadOptions

# More of them: FUZZ_TIMES=25 in the environment.
TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
FILES = 800 * TIMES
PIECES = ["a", "b c", "fine", "ü", "很好", "😀", "NA", "-1.5", "'", '"', '""', ",", ";", "\t", "|", "\n", " "]
LABELS = ["neg", "pos", "0", "1"]


def random_rows(chance: random.Random) -> list[list[str]]:
    """Returns a header and rows of its width."""
    names = chance.choice([["text", "label"], ["label", "text"], ["id", "text", "label"]])
    rows = [names]
    for row in range(chance.randint(1, 8)):
        text = "x" + "".join(chance.choices(PIECES, k=chance.randint(0, 6)))
        cells = {"id": str(row), "label": chance.choice(LABELS), "text": text}
        rows.append([cells[name] for name in names])
    return rows


def read(content: str, *, usual: str, **options: Any) -> list[list[str]] | None:
    """Returns header and rows as the reader finds them; None if it refuses them."""
    try:
        table = read_delimited(content, origin="a.csv", delimiter=usual, options=ReadOptions(**options))
    except RequestError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("a.csv")
        return None
    return [list(table.columns), *map(list, zip(*table.columns.values(), strict=True))]


def by_pandas(content: str, **options: Any) -> list[list[str]]:
    """Returns header and rows as pandas finds them, every value as written."""
    import pandas

    frame = pandas.read_csv(io.StringIO(content), dtype=str, keep_default_na=False, **options)
    return [list(frame.columns), *frame.to_numpy().tolist()]


@pytest.mark.parametrize("usual", [",", "\t"])
def test_what_csv_writes_is_read_as_csv_and_pandas_read_it(usual: str) -> None:
    chance = random.Random(usual)
    refused = 0
    for _ in range(2 * FILES):
        rows = random_rows(chance)
        delimiter = chance.choice([",", ";", "\t", "|"])
        file = io.StringIO()
        quoting: Any = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        ends = chance.choice(["\n", "\r\n"])
        csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=ends).writerows(rows)
        content = file.getvalue()
        found = read(content, usual=usual)
        refused += found is None
        assert found in (None, rows), content
        # Told all, it refuses nothing.
        assert read(content, usual=usual, delimiter=delimiter, quoting="minimal") == rows, content
        assert by_pandas(content, sep=delimiter) == rows
    # Refused are texts that hold what looks like rows of the same file.
    assert refused < FILES // 10, refused


def test_what_is_written_without_quoting_is_read_so_or_refused() -> None:
    chance = random.Random(1)
    read_as_written = 0
    for _ in range(2 * FILES):
        delimiter = chance.choice([",", "\t"])
        opening = '"' if chance.random() < 0.5 else ""  # Texts that begin with a quote, as quotations do.
        rows = random_rows(chance)
        text = rows[0].index("text")
        for row in rows[1:]:
            row[text] = opening * chance.randint(0, 1) + row[text].replace(delimiter, "").replace("\n", "")
        content = "".join(delimiter.join(row) + "\n" for row in rows)
        assert read(content, usual=delimiter, quoting="none") == rows, content
        assert by_pandas(content, sep=delimiter, quoting=csv.QUOTE_NONE) == rows
        found = read(content, usual=delimiter)
        # A value in quotes from end to end means what is between them: no file can say otherwise.
        assert found in (None, rows, [list(map(unquoted, row)) for row in rows]), content
        read_as_written += found == rows
    assert read_as_written > FILES


def unquoted(cell: str) -> str:
    """Returns what is between the quotes of a well quoted value, and other values as they are."""
    inner = cell[1:-1].replace('""', "")
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if is_quoted else cell


def test_a_damaged_file_is_refused_or_read_as_csv_reads_it() -> None:
    chance = random.Random(2)
    refused = 0
    for _ in range(3 * FILES):
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(random_rows(chance))
        content = file.getvalue()
        at = chance.randrange(content.index("\n") + 1, len(content))
        damaged = content[:at] + chance.choice(['"', ",", "\n", ""]) + content[at + chance.randint(0, 1) :]
        found = read(damaged, usual=",")
        refused += found is None
        if found is not None:
            strict = csv.reader(io.StringIO(damaged, newline=""), strict=True)
            # Delimiters at the ends of lines do no harm.
            assert found == [trimmed(row, len(found[0])) for row in strict if any(map(str.strip, row))], damaged
    assert FILES < refused < 3 * FILES


def trimmed(row: list[str], width: int) -> list[str]:
    """Returns a row without empty values beyond a width."""
    return row[:width] if not any(row[width:]) else row


def test_json_lines_are_read_as_json_and_pandas_read_them(tmp_path: Path) -> None:
    import pandas

    chance = random.Random(3)
    path = tmp_path / "a.jsonl"
    for _ in range(150 * TIMES):
        names, *cells = random_rows(chance)
        rows = [dict(zip(names, row, strict=True)) for row in cells]
        lines = "\n".join(json.dumps(row, ensure_ascii=chance.random() < 0.5) for row in rows)
        path.write_bytes(lines.encode(chance.choice(["utf-8", "utf-8-sig", "utf-16"])))
        columns = read_file(path).columns
        assert [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] == rows
        assert columns == pandas.read_json(io.StringIO(lines), lines=True, dtype=False).to_dict("list")
