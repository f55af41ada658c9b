"""The program from its arguments or standard input to JSON lines."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.training.data.files import read_file
from src.training.predict import main
from src.training.testing.forked_runs import load_libraries, run_program
from src.training.testing.tiny_model import build_tiny_model, write_sentences

# Runs the program, then lists on standard error the heavy modules it loaded.
_LISTS_WHAT_IT_LOADED = """
import sys
from src.training.predict import main
code = main(sys.argv[1:])
sys.stderr.write(f"loaded: {sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys())}")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model."""
    load_libraries()
    folder = tmp_path_factory.mktemp("user")
    build_tiny_model(folder / "model", head=2)
    return folder


def _environment(user_folder: Path) -> dict[str, str]:
    return os.environ | {"BUILD_WORKING_DIRECTORY": str(user_folder), "PYTHONPATH": os.pathsep.join(sys.path)}


def _run(user_folder: Path, *arguments: str, lines: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs the program in a forked process."""
    return run_program(main, *arguments, environment=_environment(user_folder), lines=lines)


def _start(
    user_folder: Path, *arguments: str, lines: bytes = b"", code: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs the program in a process of its own."""
    command = ["-m", "src.training.predict"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        env=_environment(user_folder),
        input=lines,
        capture_output=True,
        timeout=120,
    )


def _rows(output: bytes) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_lines_come_back_in_order_with_the_pipelines_scores(user_folder: Path, tmp_path: Path) -> None:
    texts = read_file(write_sentences(tmp_path / "rows.csv", rows=200, seed=3)).columns["text"]
    arguments = ("--model", "model", "--batch_size", "4", "--threads", "1")
    done = _run(user_folder, *arguments, lines="\n".join(texts).encode())
    assert (done.returncode, done.stderr) == (0, b"")
    rows = _rows(done.stdout)
    assert [row["text"] for row in rows] == texts
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=str(user_folder / "model"), device="cpu")
    for row, wanted in zip(rows, classify(texts), strict=True):
        assert row["score"] == pytest.approx(wanted["score"], abs=1e-6)
        assert row["label"] == wanted["label"] or row["score"] == pytest.approx(0.5, abs=1e-6)
        assert row["scores"][row["label"]] == row["score"] == max(row["scores"].values())
        assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-6)


def test_texts_may_be_arguments_and_are_not_escaped(user_folder: Path) -> None:
    done = _run(user_folder, "--model", "model", "schön", "--threads", "1", "two\nlines")
    assert [row["text"] for row in _rows(done.stdout)] == ["schön", "two\nlines"]
    assert "schön".encode() in done.stdout


@pytest.mark.parametrize(
    ("arguments", "lines", "words"),
    [
        ((), b"", b"predict: --model is missing"),
        (("--model", "nowhere"), b"", b"nowhere does not exist"),
        (("--model", "model", "good", " "), b"", b"text 2 is empty"),
        (("--model", "model"), b"\ngood\n", b"line 1 is empty"),
    ],
)
def test_a_wrong_request_is_one_sentence_before_anything_heavy_is_loaded(
    user_folder: Path, arguments: tuple[str, ...], lines: bytes, words: bytes
) -> None:
    done = _start(user_folder, *arguments, lines=lines, code=_LISTS_WHAT_IT_LOADED)
    assert (done.returncode, done.stdout) == (2, b"")
    sentence, loaded = done.stderr.splitlines()
    assert words in sentence
    assert loaded == b"loaded: []"


def test_what_stands_before_an_empty_line_is_answered(user_folder: Path) -> None:
    done = _run(user_folder, "--model", "model", "--threads", "1", lines=b"good\nbad\n\nfine\n")
    assert done.returncode == 2
    assert [row["text"] for row in _rows(done.stdout)] == ["good", "bad"]
    assert done.stderr == b"predict: line 3 is empty: every line must hold a text\n"


def test_no_lines_are_no_texts(user_folder: Path) -> None:
    done = _run(user_folder, "--model", "model")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_reader_that_has_seen_enough_ends_it_quietly(user_folder: Path) -> None:
    command = [sys.executable, "-m", "src.training.predict", "--model", "model", "--threads", "1", "--batch_size", "8"]
    process = subprocess.Popen(
        command, env=_environment(user_folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with process:
        process.stdin.write(b"the film was good\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b'{"text": "the film was good"')
        process.stdout.close()
        process.stdin.write(b"the film was bad\n" * 100)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_refusal_takes_less_than_two_seconds_of_cpu_time(user_folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert _start(user_folder, "--model", "model", "--max_seq_length", "33", "good").returncode == 2
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_it_can_be_called(
    user_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(user_folder))
    assert main(["--model", "model", "--threads", "1", "good"]) == 0
    assert json.loads(capfd.readouterr().out)["text"] == "good"


ROWS = {"id": ["7", "8", "9"], "words": ["a fine film", "poor, “poor”\nfilm", "film"], "label": ["neg", "pos", "neg"]}


def _write_rows(path: Path) -> None:
    """Writes ROWS, in the form that the name of the file tells."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(ROWS), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ROWS, delimiter={".tsv": "\t", ".csv": ";"}[path.suffix])
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture(scope="module")
def named_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose classes have names."""
    folder = build_tiny_model(tmp_path_factory.mktemp("named") / "model", head=2)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "neg", "1": "pos"}, "label2id": {"neg": 0, "pos": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("read", "written"), [("csv", "tsv"), ("tsv", "parquet"), ("jsonl", "csv"), ("parquet", "jsonl")]
)
def test_a_file_comes_back_with_its_columns_in_order_and_the_scores(
    named_model: Path, tmp_path: Path, read: str, written: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _write_rows(tmp_path / f"rows.{read}")
    files = ("--input_file", f"{tmp_path}/rows.{read}", "--output_file", f"{tmp_path}/out.{written}")
    assert main(["--model", str(named_model), *files, "--threads", "1", "--text_column_name", "words"]) == 0
    printed = capfd.readouterr().out
    assert main(["--model", str(named_model), "--threads", "1", *ROWS["words"]]) == 0
    wanted = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    columns = read_file(tmp_path / f"out.{written}").columns
    assert list(columns) == [*ROWS, "predicted_label", "predicted_score", "score_neg", "score_pos"]
    assert {name: columns[name] for name in ROWS} == ROWS
    assert columns["predicted_label"] == [row["label"] for row in wanted]
    assert [*map(float, columns["score_pos"])] == pytest.approx([row["scores"]["pos"] for row in wanted], abs=1e-6)
    right = sum(row["label"] == label for row, label in zip(wanted, ROWS["label"], strict=True))
    assert f"Examples: 3 (rows.{read})\nAccuracy: {right / 3:.4f}" in printed


def test_rows_without_labels_or_with_those_of_others_are_predicted_all_the_same(
    named_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(named_model), "--threads", "1", "--output_file", f"{tmp_path}/out.csv"]
    for content, printed in (
        ("words\na film\nb\n", ""),
        ("words,label\na film,\nb,ugly\n", "Not scored: 1 rows with labels that the model lacks, such as 'ugly'\n"),
    ):
        (tmp_path / "rows.csv").write_text(content)
        assert main([*arguments, "--input_file", f"{tmp_path}/rows.csv"]) == 0
        assert capfd.readouterr().out == printed
        assert len(read_file(tmp_path / "out.csv").columns["predicted_label"]) == 2


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ('text\na film\n" "\n', [], "rows.csv, line 3: text is empty"),
        ("text,predicted_label\na,b\n", ["--text_column_name", "text"], "has the columns predicted_label already"),
        ("a,b\nc d,e f\n", [], "rows.csv has the columns a, b: name the one with text with --text_column_name"),
        ("text\na\n", ["a text"], "--input_file and texts ('a text') are mutually exclusive"),
        ("text\na\n", ["--delimiter", "ab"], "--delimiter must be one character"),
        ("text\na\n", ["--output_file", "out.xlsx"], "out.xlsx must end in .csv, .tsv, .jsonl, .parquet"),
        ("text\na\n", ["--output_file", "no/out.csv"], "there is no folder"),
        ("text\na\n", ["--output_file", "rows.csv"], "rows.csv exists already: name another file"),
    ],
)
def test_a_file_that_cannot_be_predicted_is_refused_and_nothing_is_written(
    named_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    content: str,
    flags: list[str],
    words: str,
) -> None:
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    (tmp_path / "rows.csv").write_text(content)
    assert main(["--model", str(named_model), "--input_file", "rows.csv", "--output_file", "out.csv", *flags]) == 2
    assert words in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert (tmp_path / "rows.csv").read_text() == content


def test_a_file_of_rows_in_the_place_of_texts_is_refused(user_folder: Path) -> None:
    (user_folder / "new.csv").write_text("id,text\n1,a film\n")
    with (user_folder / "new.csv").open("rb") as lines:
        for texts in (["new.csv"], []):
            command = [sys.executable, "-m", "src.training.predict", "--model", "model", *texts]
            done = subprocess.run(command, env=_environment(user_folder), stdin=lines, capture_output=True, timeout=120)
            assert (done.returncode, done.stdout) == (2, b"")
            assert b"new.csv is a file of rows, not of texts: --input_file" in done.stderr
