"""The programs from end to end on values, on pairs of texts and on weighted classes: train, show, predict, export."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.training import export_onnx, predict
from src.training.regression_metrics import RegressionMetrics
from src.training.tiny_model import build_tiny_model, write_pairs, write_ratings, write_sentences
from src.training.train_model import main, print_model_performance

COMMON = (
    *("--model_name_or_path", "base", "--train_file", "train.csv", "--test_file", "test.csv"),
    *("--max_seq_length", "24", "--per_device_train_batch_size", "8", "--learning_rate", "1e-2"),
    *("--threads", "1", "--output_dir", "out"),
)
VALUES = (*COMMON, "--label_column_name", "rating", "--num_train_epochs", "16")
PAIRS = (*COMMON, "--text_column_name", "first", "--text_pair_column_name", "second", "--num_train_epochs", "8")


@pytest.fixture(scope="module", autouse=True)
def _as_it_was() -> Iterator[None]:
    """Gives back the signals and the environment that the programs take over."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TEST_TIMEOUT", "TEST_UNDECLARED_OUTPUTS_DIR"):
            patch.delenv(name, raising=False)
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _in(folder: Path, run: Any, *arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUILD_WORKING_DIRECTORY", str(folder))
        return int(run([*arguments]))


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished regression."""
    folder = tmp_path_factory.mktemp("values")
    build_tiny_model(folder / "base")
    write_ratings(folder / "train.csv", rows=120, seed=1)
    write_ratings(folder / "test.csv", rows=30, seed=2)
    assert _in(folder, main, *VALUES) == 0
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished classifier of pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    build_tiny_model(folder / "base")
    write_pairs(folder / "train.csv", rows=120, seed=1)
    write_pairs(folder / "test.csv", rows=40, seed=2)
    assert _in(folder, main, *PAIRS) == 0
    return folder


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(told: str) -> list[Any]:
    return [json.loads(line) for line in told.splitlines()]


def test_a_regression_learns_and_is_measured_by_its_errors(values: Path) -> None:
    metrics = _read(values / "out" / "metrics.json")
    scores = {"split", "examples", "loss", "mse", "mae", "mae_ci95", "pearson", "spearman", "r2"}
    for side in ("before", "after"):
        told = metrics[side]
        assert set(told) == scores
        assert (told["split"], told["examples"]) == ("test", 30)
        assert told["mae_ci95"][0] < told["mae"] < told["mae_ci95"][1]
        assert told["loss"] == pytest.approx(told["mse"], rel=1e-5)
    assert metrics["after"]["mae"] < 0.5 < metrics["before"]["mae"]
    assert metrics["after"]["pearson"] > 0.9
    comparison = metrics["comparison"]
    assert comparison["test"] == "wilcoxon_signed_rank"
    assert comparison["better"] + comparison["worse"] == 30
    assert comparison["p_value"] < 0.05


def test_a_regression_is_one_output_that_transformers_knows_for_a_value(values: Path) -> None:
    from transformers import pipeline

    config = _read(values / "out" / "config.json")
    assert (config["problem_type"], config["id2label"]) == ("regression", {"0": "rating"})
    answers = pipeline("text-classification", model=str(values / "out"))(["the film was great", "the film was awful"])
    assert [answer["label"] for answer in answers] == ["rating", "rating"]
    assert answers[0]["score"] > 0.5 > -0.5 > answers[1]["score"]


def test_a_regression_is_told_to_people(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = shutil.copytree(values, values.parent / "again", ignore=shutil.ignore_patterns("out*"))
    assert _in(again, main, *VALUES) == 0
    told = capsys.readouterr().out
    assert "Labels: numbers from -2.1" in told
    assert "to come near to (a regression; --problem_type classification would make classes of them)" in told
    assert "epoch 16: validation mean absolute error" in told
    assert "Predicted value: " in told
    assert "Mean absolute error: " in told and "95% interval" in told
    assert "rows nearer to their label" in told and "better, by more than noise (Wilcoxon's test, p " in told
    assert "ccuracy" not in told
    assert "mean absolute error" in (again / "out" / "report.html").read_text()
    assert "a regression)" in (again / "out" / "README.md").read_text()
    # The same recipe elsewhere: the same bits.
    for name in ("model.safetensors", "recipe.json", "config.json"):
        first, second = (hashlib.sha256((folder / "out" / name).read_bytes()) for folder in (values, again))
        assert first.hexdigest() == second.hexdigest()


def test_events_of_a_regression_tell_its_errors(values: Path) -> None:
    events = _lines((values / "out" / "events.jsonl").read_text())
    scored = [event for event in events if event["event"] == "evaluation"]
    assert len(scored) == 16
    assert all(event["mae_ci95"][0] < event["mae"] < event["mae_ci95"][1] for event in scored)


def test_predict_says_a_value(values: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _in(values, predict.main, "--model", "out", "--threads", "1", "the film was great", "dull") == 0
    great, dull = _lines(capfd.readouterr().out)
    assert set(great) == {"text", "value"}
    assert great["value"] > dull["value"]
    assert _in(values, predict.main, "--model", "out", "--pairs", "a", "b") == 2
    assert "was trained on single texts: leave out --pairs" in capfd.readouterr().err


def test_a_regression_is_exported_and_compared_by_its_errors(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "out", "--output", "out.onnx", "--check_file", "test.csv", "--label_column_name", "rating")
    assert _in(values, export_onnx.main, *flags) == 0
    check = _read(values / "out.onnx.json")["check"]
    assert (check["same_predictions"], check["accuracy"], check["labelled_rows"]) == (None, None, 30)
    mae = _read(values / "out" / "metrics.json")["after"]["mae"]
    assert check["mean_absolute_error"]["original"] == pytest.approx(mae, rel=1e-4)
    assert check["mean_absolute_error"]["onnx"] == pytest.approx(mae, rel=1e-3)
    told = capsys.readouterr().out
    assert "30 rows of test.csv: values off by at most" in told
    assert "on average, 30 labelled rows" in told


def test_a_wrong_export_of_a_regression_is_never_written(
    values: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from src.training.onnx_graph import OnnxClassifier

    right = OnnxClassifier.score_batch
    monkeypatch.setattr(OnnxClassifier, "score_batch", lambda self, batch: right(self, batch) + 0.01)
    flags = ("--model", "out", "--output", "wrong.onnx", "--check_file", "test.csv", "--label_column_name", "rating")
    assert _in(values, export_onnx.main, *flags) == 1
    assert "differs from the original (values of 30 rows off by up to 1.0e-02)" in capsys.readouterr().err
    assert not (values / "wrong.onnx").exists()


def test_print_model_performance_scores_a_regression(values: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(values / "out")
    tokenizer = AutoTokenizer.from_pretrained(values / "out")
    # Whole numbers are values too.
    rows = {"text": ["the film was great", "the film was awful"], "rating": [2, -2]}
    metrics = print_model_performance(model, None, tokenizer, rows, text_column_name="text", label_column_name="rating")
    assert isinstance(metrics, RegressionMetrics)
    assert metrics.mae < 1
    assert metrics.pearson == pytest.approx(1)


def test_pairs_are_learnt_by_which_text_is_which(pairs: Path) -> None:
    metrics = _read(pairs / "out" / "metrics.json")
    # Whoever confuses the two texts is right half of the time.
    assert metrics["after"]["accuracy"] > 0.9
    recipe = _read(pairs / "out" / "recipe.json")
    assert recipe["recipe"]["text_pair_column_name"] == "second"
    assert "A classifier of pairs of texts (negative, positive)" in (pairs / "out" / "README.md").read_text()


def test_pairs_are_predicted_from_arguments_and_lines_as_the_pipeline_does(
    pairs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from transformers import pipeline

    asked = [("the story 3 is bad", "the film was good"), ("the story 3 is good", "the film was bad")]
    arguments = ("--model", "out", "--threads", "1")
    assert _in(pairs, predict.main, *arguments, *asked[0], *asked[1]) == 0
    told = _lines(capfd.readouterr().out)
    assert [(row["text"], row["text_pair"]) for row in told] == asked
    assert [row["label"] for row in told] == ["positive", "negative"]
    classify: Any = pipeline("text-classification", model=str(pairs / "out"))
    for (text, pair), row in zip(asked, told, strict=True):
        assert classify({"text": text, "text_pair": pair})["score"] == pytest.approx(row["score"], abs=1e-6)
    lines = "".join(json.dumps({"text": text, "text_pair": pair, "id": 7}) + "\n" for text, pair in asked)
    stream = io.TextIOWrapper(io.BytesIO(lines.encode()))
    monkeypatch.setattr("sys.stdin", stream)
    assert _in(pairs, predict.main, *arguments) == 0
    assert _lines(capfd.readouterr().out) == told


@pytest.mark.parametrize(
    ("texts", "lines", "words"),
    [
        (("a", "b", "c"), "", "the model reads pairs of texts, and 3 texts are no pairs"),
        ((), "a film\n", "line 1 is no JSON object, and the model reads pairs of texts"),
        ((), '["a", "b"]\n', "line 1 is no JSON object"),
        ((), '{"text": "a"}\n', "line 1 has no text_pair: every line must be like"),
        ((), '{"text": " ", "text_pair": "b"}\n', "line 1 has no text: every line"),
        ((), '{"text": "a", "text_pair": 3}\n', "line 1 has no text_pair"),
    ],
)
def test_what_is_no_pair_is_refused(
    pairs: Path,
    texts: tuple[str, ...],
    lines: str,
    words: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert _in(pairs, predict.main, "--model", "out", *texts) == 2
    told = capfd.readouterr()
    assert words in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_a_model_of_pairs_is_exported_and_checked_on_pairs(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", "out", "--output", "out.onnx")
    assert _in(pairs, export_onnx.main, *flags) == 2
    assert "--check_file is missing: the model reads pairs of texts" in capsys.readouterr().err
    assert _in(pairs, export_onnx.main, *flags, "--check_file", "test.csv", "--text_column_name", "first") == 0
    check = _read(pairs / "out.onnx.json")["check"]
    accuracy = _read(pairs / "out" / "metrics.json")["after"]["accuracy"]
    # Scored on single texts, or on token types of 0 alone, it would be another.
    assert check["accuracy"] == {"original": accuracy, "onnx": accuracy}
    assert (check["rows"], check["same_predictions"]) == (40, 1.0)


def test_a_model_of_other_making_takes_pairs_if_told_so(pairs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(pairs / "out", pairs / "foreign", dirs_exist_ok=True)
    (pairs / "foreign" / "recipe.json").unlink()
    given = ("the story 3 is bad", "the film was good")
    assert _in(pairs, predict.main, "--model", "out", *given) == 0
    assert _in(pairs, predict.main, "--model", "foreign", "--pairs", *given) == 0
    first, second = _lines(capfd.readouterr().out)
    assert first == second
    assert _in(pairs, predict.main, "--model", "foreign", *given) == 0
    assert len(_lines(capfd.readouterr().out)) == 2


def test_print_model_performance_scores_pairs(pairs: Path) -> None:
    import datasets
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(pairs / "out")
    tokenizer = AutoTokenizer.from_pretrained(pairs / "out")
    rows = datasets.Dataset.from_dict(
        {"a": ["the story 3 is bad"] * 2, "b": ["the film was good", "the film was bad"], "label": [1, 0]}
    )
    metrics: Any = print_model_performance(
        model, None, tokenizer, rows, text_column_name="a", text_pair_column_name="b"
    )
    assert metrics.accuracy == 1.0


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of which few are positive, and labels by chance for some."""
    folder = tmp_path_factory.mktemp("rare")
    build_tiny_model(folder / "base")
    write_sentences(folder / "all.csv", rows=800, seed=1, noise=0.25)
    head, *rows = (folder / "all.csv").read_text().splitlines()
    negative, positive = ([row for row in rows if row.endswith(label)] for label in ("negative", "positive"))
    for name, many, few in (("train", negative[:200], positive[:40]), ("test", negative[300:], positive[300:])):
        (folder / f"{name}.csv").write_text("\n".join([head, *many, *few]) + "\n")
    return folder


def _recalls(folder: Path) -> list[float]:
    matrix = _read(folder / "out" / "metrics.json")["after"]["confusion_matrix"]
    return [row[at] / sum(row) for at, row in enumerate(matrix)]


def test_weights_make_the_rare_class_count(rare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = (*COMMON, "--num_train_epochs", "3", "--overwrite_output_dir", "--load_best_model_at_end", "false")
    found = {}
    for weights in ("none", "balanced", "1,5", "5,1"):
        assert _in(rare, main, *run, "--class_weights", weights) == 0
        recipe = _read(rare / "out" / "recipe.json")
        digest = hashlib.sha256((rare / "out" / "model.safetensors").read_bytes()).hexdigest()
        found[weights] = (_recalls(rare)[1], digest, recipe["fingerprint"])
    told = capsys.readouterr().out
    assert told.count("Class weights: negative 0.") == 1
    assert "Class weights: negative 1, positive 5" in told
    assert found["balanced"][0] > found["none"][0]
    assert found["1,5"][0] > found["5,1"][0]
    for part in (1, 2):
        assert len({each[part] for each in found.values()}) == 4


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("1,2,3", "class_weights has 3 numbers, and there are 2 classes: give one for each, in the order negative, "),
        ("1,0", "class_weights must be none, balanced, or a number above 0 for each class"),
        ("balnced", "class_weights must be none, balanced, or a number above 0 for each class"),
    ],
)
def test_wrong_weights_are_refused(rare: Path, weights: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _in(rare, main, *COMMON, "--class_weights", weights) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_weights_of_a_regression_are_refused(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _in(values, main, *VALUES, "--class_weights", "balanced") == 2
    assert "class_weights go with classes, and this is a regression: leave them out" in capsys.readouterr().err


def test_a_missing_pair_column_is_refused_with_the_nearest(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _in(pairs, main, *PAIRS, "--text_pair_column_name", "secnd") == 2
    assert "train.csv has no column 'secnd' (did you mean second?)" in capsys.readouterr().err
