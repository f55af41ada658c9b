"""A remote result is collected only if this checkout would have produced it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from src.cache_manager.keys.code_version import training_code
from src.cache_manager.store.store import Store
from src.remote import collect
from src.remote.results.received_model import CODE_FILE
from src.training.testing.tiny_model import build_tiny_model, write_ratings, write_sentences
from src.training.train_model import main as train

FLAGS = (
    *("--model_name_or_path", "base", "--train_file", "rows.csv", "--threads", "1", "--max_seq_length", "16"),
    *("--per_device_train_batch_size", "4", "--num_train_epochs", "2"),
)
OUTPUTS = Path("bazel-testlogs/src/training/training_test/test.outputs")


def train_in(folder: Path, outputs: Path, *flags: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Trains as run_training.sh does, in a folder with model and rows; returns the exit code."""
    outputs.mkdir(parents=True, exist_ok=True)
    lines = [f"{digest}  ./{name}\n" for name, digest in training_code().items()]
    (outputs / CODE_FILE).write_text("".join(lines))
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(folder))
    monkeypatch.setenv("TEST_UNDECLARED_OUTPUTS_DIR", str(outputs))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return train([*FLAGS, *flags])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which a test has trained."""
    root = tmp_path_factory.mktemp("finished")
    build_tiny_model(root / "base")
    write_sentences(root / "rows.csv", rows=80, seed=1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert train_in(root, root / OUTPUTS, monkeypatch=monkeypatch) == 0
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in which `collect` runs, and an empty cache."""
    copy = shutil.copytree(finished, tmp_path / "root")
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(copy))
    monkeypatch.setenv("FINETUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FINETUNE_CACHE_MAX_SIZE", raising=False)
    yield copy


def entries(tmp_path: Path) -> list[str]:
    return list(Store(tmp_path / "cache").keys())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_model_is_committed_and_the_checkpoint_it_resumed_from_is_removed(
    root: Path, tmp_path: Path, zipped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = collect.resume_file(root, collect.DEFAULT_TEST)
    resume.parent.mkdir(parents=True)
    resume.touch()
    other = resume.with_name("llm_training_test.tar")
    other.touch()
    if zipped:
        shutil.make_archive(str(tmp_path / "outputs"), "zip", root / OUTPUTS)
        shutil.rmtree(root / OUTPUTS)
        (root / OUTPUTS).mkdir()
        shutil.move(tmp_path / "outputs.zip", root / OUTPUTS)
    assert collect.main([]) == 0
    [key] = entries(tmp_path)
    assert key in capsys.readouterr().out
    assert Store(tmp_path / "cache").lookup(key) is not None
    assert (resume.exists(), other.exists()) == (False, True)
    # Bazel's outputs are unchanged, and a second run changes nothing.
    assert collect.main(["//src/training:training_test"]) == 0
    assert entries(tmp_path) == [key]


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_seed(root: Path) -> None:
    path = root / OUTPUTS / "model" / "recipe.json"
    edit_json(path, recipe={**json.loads(path.read_text())["recipe"], "seed": 43})


def other_rows(root: Path) -> None:
    write_sentences(root / "rows.csv", rows=80, seed=2)


def other_code(root: Path) -> None:
    path = root / OUTPUTS / CODE_FILE
    path.write_text(path.read_text().replace("./training/engine/trainer.py", "./elsewhere.py"))


def unfinished(root: Path) -> None:
    edit_json(root / OUTPUTS / "model" / "metrics.json", status="interrupted")


def other_library(root: Path) -> None:
    edit_json(root / OUTPUTS / "model" / "metrics.json", environment={"versions": {"torch": "1.0"}})


def truncated_weights(root: Path) -> None:
    path = root / OUTPUTS / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def pickled_weights(root: Path) -> None:
    (root / OUTPUTS / "model" / "model.safetensors").rename(root / OUTPUTS / "model" / "pytorch_model.bin")


def no_weights(root: Path) -> None:
    (root / OUTPUTS / "model" / "model.safetensors").unlink()


def no_scores(root: Path) -> None:
    edit_json(root / OUTPUTS / "model" / "metrics.json", after=None)


def no_recipe(root: Path) -> None:
    (root / OUTPUTS / "model" / "recipe.json").write_text("[]")


def unknown_code(root: Path) -> None:
    (root / OUTPUTS / CODE_FILE).unlink()


def no_outputs(root: Path) -> None:
    shutil.rmtree(root / OUTPUTS)


def link_out(root: Path) -> None:
    (root / OUTPUTS / "model" / "extra").symlink_to("/etc/hostname")


def damaged_archive(root: Path) -> None:
    (root / OUTPUTS / "outputs.zip").write_bytes(b"PK\x03\x04 and no more")


def archive_that_leads_out(root: Path) -> None:
    with zipfile.ZipFile(root / OUTPUTS / "outputs.zip", "w") as archive:
        archive.writestr("../escaped", "x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_seed, "had other inputs"),
        (other_rows, "had other inputs"),
        (other_code, "used other code than this checkout (training/engine/trainer.py)"),
        (unknown_code, "do not record which code trained the model"),
        (unfinished, "is not finished (status interrupted)"),
        (other_library, "trained with torch 1.0, this checkout has"),
        (truncated_weights, "does not load"),
        (pickled_weights, "hold 'model/pytorch_model.bin', which is no file of a model"),
        (no_weights, "is not a complete model"),
        (no_scores, "holds no scores"),
        (no_recipe, "have no readable recipe.json"),
        (no_outputs, "left no outputs"),
        (link_out, "is not a regular file"),
        (damaged_archive, "is damaged"),
        (archive_that_leads_out, "hold '../escaped', which is no file of a model"),
    ],
)
def test_any_other_result_is_refused_and_nothing_is_committed(
    root: Path, tmp_path: Path, damage: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(root)
    assert collect.main([]) == 2
    assert message in capsys.readouterr().err
    assert entries(tmp_path) == []
    assert not (tmp_path / "escaped").exists()


@pytest.fixture(scope="module")
def stopped(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `finished` in which the test has stopped at its deadline."""
    root = shutil.copytree(finished, tmp_path_factory.mktemp("stopped") / "root")
    shutil.rmtree(root / OUTPUTS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert train_in(root, root / OUTPUTS, "--deadline_seconds", "0.01", monkeypatch=monkeypatch) == 3
    return root


def text_of(folder: Path) -> Path:
    return next(path for name in ("events.jsonl", "state.json") if (path := folder / name).exists())


def weights_of(folder: Path) -> Path:
    return sorted(folder.rglob("model.safetensors"))[0]


def adding(name: str) -> Callable[[Path], None]:
    """Returns what adds a file."""

    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")

    return add


def empty_folder(folder: Path) -> None:
    (folder / "sub").mkdir()


def link(folder: Path) -> None:
    (path := text_of(folder)).unlink()
    path.symlink_to("/etc/hostname")


def pipe(folder: Path) -> None:
    (path := text_of(folder)).unlink()
    os.mkfifo(path)


def huge_text(folder: Path) -> None:
    os.truncate(text_of(folder), 257 << 20)


def weights_above_the_disk(folder: Path) -> None:
    os.truncate(weights_of(folder), 2 * shutil.disk_usage(tempfile.gettempdir()).free)


def weights_above_the_model(folder: Path) -> None:
    os.truncate(weights_of(folder), 100 << 20)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (adding("BUILD"), "which is no file of a model"),
        (adding("BUILD.bazel"), "which is no file of a model"),
        (adding("modeling.py"), "which is no file of a model"),
        (adding(".bashrc"), "which is no file of a model"),
        (adding("optimizer.pt"), "which is no file of a model"),
        (adding("\x1b[2Jreport.html\n"), "which is no file of a model"),
        (adding("sub/recipe.json"), "which is no file of a model"),
        (empty_folder, "which is no file of a model"),
        (link, "is not a regular file"),
        (pipe, "is not a regular file"),
        (huge_text, "more than 256 MiB"),
        (weights_above_the_disk, " free: nothing is collected"),
        (weights_above_the_model, "of this base model at most"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "model.checkpoint", "model.checkpoint/checkpoint-*"])
def test_nothing_arrives_but_the_files_of_a_model_or_a_checkpoint(
    root: Path,
    stopped: Path,
    tmp_path: Path,
    kind: str,
    spoil: Callable[[Path], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kind != "model":
        shutil.rmtree(root)
        shutil.copytree(stopped, root)
    [folder] = (root / OUTPUTS).glob(kind)
    spoil(folder)
    before = sorted(root.rglob("*"))
    assert collect.main([]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.removesuffix("\n").isprintable()
    assert entries(tmp_path) == []
    assert sorted(root.rglob("*")) == before


def fifth_file(archive: zipfile.ZipFile) -> None:
    archive.writestr("model/BUILD", "")


def linked_file(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("model/merges.txt")
    member.external_attr = 0o120777 << 16
    archive.writestr(member, "/etc/hostname")


def file_twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("model/recipe.json", "{}")


def bomb(archive: zipfile.ZipFile) -> None:
    with archive.open("model/report.html", "w") as member:
        for _ in range(257):
            member.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (fifth_file, "hold 'model/BUILD', which is no file of a model"),
        (linked_file, "is not a regular file"),
        (file_twice, "holds a file twice"),
        (bomb, "more than 256 MiB"),
    ],
)
def test_an_archive_is_refused_before_it_is_unpacked(
    root: Path,
    tmp_path: Path,
    add: Callable[[zipfile.ZipFile], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with zipfile.ZipFile(root / OUTPUTS / "outputs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / OUTPUTS / "model").iterdir()):
            if (add, path.name) != (bomb, "report.html"):
                archive.write(path, f"model/{path.name}")
        add(archive)
    monkeypatch.delattr(zipfile.ZipFile, "extractall")
    assert collect.main([]) == 2
    assert message in capsys.readouterr().err
    assert entries(tmp_path) == []


@pytest.mark.parametrize("label", ["training_test", "//", "//../..:x", "//src/training:../x", "//a//b"])
def test_a_label_names_a_test_of_this_repository(root: Path, label: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert root.is_dir()
    assert collect.main([label]) == 2
    assert "is not the label of a test in this repository" in capsys.readouterr().err


def test_a_stopped_run_resumes_to_the_same_bits(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted = (root / OUTPUTS / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(root / OUTPUTS)
    assert train_in(root, root / OUTPUTS, "--deadline_seconds", "0.01", monkeypatch=monkeypatch) == 3
    assert collect.main([]) == 3
    assert "stopped_at_deadline" in capsys.readouterr().out
    # One file, so that nothing in it has a name in the workspace.
    assert [path.name for path in (root / "src/training").rglob("*")] == ["resume", "training_test.tar"]
    shutil.rmtree(root / OUTPUTS)
    (root / OUTPUTS).mkdir()
    # As run_training.sh does.
    archive = collect.resume_file(root, collect.DEFAULT_TEST)
    subprocess.run(["tar", "--no-same-owner", "-xmf", archive, "-C", root / OUTPUTS], check=True)
    assert train_in(root, root / OUTPUTS, "--resume_from_checkpoint", "true", monkeypatch=monkeypatch) == 0
    assert (root / OUTPUTS / "model" / "model.safetensors").read_bytes() == uninterrupted
    assert collect.main([]) == 0
    assert len(entries(tmp_path)) == 1
    assert not archive.exists()


def test_a_regression_is_collected(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / OUTPUTS)
    write_ratings(root / "rows.csv", rows=80, seed=1)
    assert train_in(root, root / OUTPUTS, "--label_column_name", "rating", monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert collect.main([]) == 0
    assert capsys.readouterr().out.startswith("mae ")
    assert len(entries(tmp_path)) == 1
