"""A remote result is collected only if this checkout would have produced it."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.cache_manager.keys import key as run_keys
from src.cache_manager.keys.code_version import training_code
from src.cache_manager.loading import load_model
from src.cache_manager.store.store import CacheError, Store
from src.disk.durable import canonical_json
from src.disk.testing.malicious_returns import odd_folders, odd_texts, odd_zips, wrong_types
from src.remote import collect
from src.remote.results import test_outputs
from src.remote.results.received_model import CODE_FILE
from src.training.testing.tiny_kinds import build_tiny_chat_model
from src.training.testing.tiny_model import build_tiny_model, write_conversations, write_ratings, write_sentences
from src.training.train_model import main as train

FLAGS = (
    *("--model_name_or_path", "base", "--train_file", "rows.csv", "--threads", "1", "--max_seq_length", "16"),
    *("--per_device_train_batch_size", "4", "--num_train_epochs", "2"),
)
LANGUAGE_FLAGS = (
    *("--model_name_or_path", "chat", "--train_file", "rows.jsonl", "--max_steps", "2"),
    # As without the flag, which is a classifier's.
    *("--max_generate_samples", "2", "--max_new_tokens", "2", "--max_seq_length", "128"),
)
KINDS = ("model", "model.checkpoint", "model.checkpoint/checkpoint-*")
Check = Callable[[str], str]
OUTPUTS = Path("bazel-testlogs/src/training/training_test/test.outputs")
# No test changes the sources or the libraries, and to read them takes longer than all else.
code_read_once = functools.cache(training_code)
version_read_once = functools.cache(importlib.metadata.version)


def train_in(folder: Path, outputs: Path, *flags: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Trains as run_training.sh does, in a folder with model and rows; returns the exit code."""
    outputs.mkdir(parents=True, exist_ok=True)
    lines = [f"{digest}  ./{name}\n" for name, digest in code_read_once().items()]
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
    build_tiny_chat_model(root / "chat")
    write_conversations(root / "rows.jsonl", rows=24, seed=1)
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
    resume = collect.resume_folder(root, collect.DEFAULT_TEST)
    other = collect.resume_folder(root, "//src/training:llm_training_test")
    for folder in (resume, other):
        folder.mkdir(parents=True)
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


def odd_versions(versions: object) -> Callable[[Path], None]:
    return lambda root: edit_json(root / OUTPUTS / "model" / "metrics.json", environment={"versions": versions})


def truncated_weights(root: Path) -> None:
    path = root / OUTPUTS / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def pickled_weights(root: Path) -> None:
    (root / OUTPUTS / "model" / "model.safetensors").rename(root / OUTPUTS / "model" / "pytorch_model.bin")


def report_with_a_script(root: Path) -> None:
    path = root / OUTPUTS / "model" / "report.html"
    path.write_text("<script>alert(1)</script>" + path.read_text())


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
        (odd_versions(None), "has no versions"),
        (odd_versions(["torch"]), "has no versions"),
        (odd_versions({"torch": "\x1b[2J"}), r"trained with torch \x1b[2J, this"),
        (truncated_weights, "model.safetensors is not what this checkout writes"),
        (pickled_weights, "hold 'model/pytorch_model.bin', which is no file of a model"),
        (report_with_a_script, "report.html does not forbid scripts"),
        (no_weights, "is not a complete model"),
        (no_scores, "has no after"),
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


@pytest.fixture(scope="module")
def language(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `finished` in which a language model was trained: merged weights, and an adapter."""
    root = shutil.copytree(finished, tmp_path_factory.mktemp("language") / "root")
    shutil.rmtree(root / OUTPUTS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert train_in(root, root / OUTPUTS, *LANGUAGE_FLAGS, monkeypatch=monkeypatch) == 0
    return root


@pytest.fixture(autouse=True, scope="module")
def all_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(run_keys, "training_code", code_read_once)
        monkeypatch.setattr(run_keys, "version", version_read_once)
        yield


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Returns what checks that `collect` refuses the outputs in one sentence, which it returns, and leaves nothing."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def check(name: str) -> str:
        capsys.readouterr()
        before = sorted(tmp_path.rglob("*"))
        code = collect.main([])
        output = capsys.readouterr()
        assert (code, output.out) == (2, ""), f"{name}: {output}"
        assert output.err.startswith("collect: ") and output.err.removesuffix("\n").isprintable(), f"{name}: {output}"
        assert sorted(tmp_path.rglob("*")) == before, name
        return output.err

    return check


def take(outputs: Path, root: Path) -> None:
    """Gives the repository these outputs, and no others."""
    shutil.rmtree(root / OUTPUTS)
    shutil.copytree(outputs, root / OUTPUTS)


def text_of(folder: Path) -> Path:
    return next(path for name in ("events.jsonl", "state.json") if (path := folder / name).exists())


def weights_of(folder: Path) -> Path:
    return sorted(folder.rglob("model.safetensors"))[0]


def huge_text(folder: Path) -> None:
    os.truncate(text_of(folder), 257 << 20)


def many_checkpoints(folder: Path) -> None:
    [outputs] = (each for each in (folder, *folder.parents) if each.name == OUTPUTS.name)
    for number in range(1, 12):
        (outputs / "model.checkpoint" / f"checkpoint-{number}").mkdir(parents=True)


def weights_above_the_disk(folder: Path) -> None:
    os.truncate(weights_of(folder), 2 * shutil.disk_usage(tempfile.gettempdir()).free)


def weights_above_the_model(folder: Path) -> None:
    os.truncate(weights_of(folder), 100 << 20)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (huge_text, " MiB: nothing is collected"),
        (many_checkpoints, "checkpoints, more than 10"),
        (weights_above_the_disk, " free: nothing is collected"),
        (weights_above_the_model, "of this base model at most"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_arrives_that_is_too_large(
    root: Path, stopped: Path, kind: str, spoil: Callable[[Path], None], message: str, refused: Check
) -> None:
    if kind != "model":
        take(stopped / OUTPUTS, root)
    [folder] = (root / OUTPUTS).glob(kind)
    spoil(folder)
    assert message in refused(kind)


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
    monkeypatch.delattr(zipfile.ZipFile, "extract")
    assert collect.main([]) == 2
    assert message in capsys.readouterr().err
    assert entries(tmp_path) == []


@pytest.fixture
def outputs(kind: str, request: pytest.FixtureRequest) -> Path:
    """Outputs that have such a folder."""
    named = {"model": "finished", "model/adapter": "language"}.get(kind, "stopped")
    return Path(request.getfixturevalue(named) / OUTPUTS)


@pytest.mark.parametrize("kind", [*KINDS, "model/adapter"])
def test_no_file_folder_or_link_arrives_that_no_training_leaves(
    root: Path, outputs: Path, tmp_path: Path, kind: str, refused: Check
) -> None:
    for name, spoil in odd_folders(tmp_path / "marker"):
        take(outputs, root)
        [folder] = (root / OUTPUTS).glob(kind)
        spoil(folder)
        refused(name)


@pytest.mark.parametrize("kind", [*KINDS[::2], "model/adapter"])
def test_no_archive_arrives_that_no_training_leaves(
    root: Path, outputs: Path, tmp_path: Path, kind: str, refused: Check
) -> None:
    files = {path.relative_to(outputs).as_posix(): path.read_bytes() for path in outputs.rglob("*") if path.is_file()}
    [place] = (folder.relative_to(outputs).as_posix() for folder in outputs.glob(kind))
    shutil.rmtree(root / OUTPUTS)
    (root / OUTPUTS).mkdir()
    for name, archive in odd_zips(files, place=place, marker=tmp_path / "marker"):
        (root / OUTPUTS / "outputs.zip").write_bytes(archive)
        refused(name)


# Bytes that no check reads: what a report says is its executor's word.
WORDS = ("events.jsonl", "report.html", "README.md")
PARSED = ("recipe.json", "metrics.json", "state.json")


@pytest.mark.parametrize("kind", ["finished", "stopped", "language"])
def test_no_file_arrives_that_holds_something_else(
    root: Path, kind: str, refused: Check, request: pytest.FixtureRequest
) -> None:
    outputs = request.getfixturevalue(kind) / OUTPUTS
    take(outputs, root)
    for path in sorted(path for path in outputs.rglob("*") if path.is_file() and path.name not in WORDS):
        arrived = root / OUTPUTS / path.relative_to(outputs)
        good = arrived.read_bytes()
        # What is compared with what it should be is not parsed.
        texts = odd_texts() if path.name in PARSED else {}
        for name, text in {**texts, "half": good[: len(good) // 2], "other": good.replace(b"e", b"f")}.items():
            arrived.write_bytes(text)
            refused(f"{path.name}: {name}")
        arrived.write_bytes(good)


def sealed(state: Any) -> str:
    """Returns a checkpoint's state with the hash that is right for it."""
    if isinstance(state, dict):
        state["sha256"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    return canonical_json(state)


def part(document: Any, fields: Any) -> Any:
    """Returns of a document the fields that are named; all, where `fields` is None."""
    return document if fields is None else {name: part(document[name], inner) for name, inner in fields.items()}


def merged(document: Any, changed: Any, fields: Any) -> Any:
    """Returns a document with a part of it changed."""
    if fields is None or not isinstance(changed, dict):
        return changed
    rest = {name: value for name, value in document.items() if name not in fields}
    return {**rest, **{name: merged(document.get(name), new, fields.get(name)) for name, new in changed.items()}}


# What is not only shown.
RECIPE = dict.fromkeys(("seed", "model_name_or_path", "train_file", "class_weights"))
DECIDING = {"recipe": RECIPE, "inputs": {"model": None}, "threads": None, "fingerprint": None}
LANGUAGE = dict.fromkeys(("use_peft", "lora_r", "lora_target_modules", "save_merged", "max_length"))
READ = {"status": None, "after": {"accuracy": None}}
STOP = {"status": None, "train": {"steps": None, "epochs": None}}


@pytest.mark.parametrize(
    ("kind", "pattern", "read", "finish"),
    [
        ("finished", "model/recipe.json", DECIDING, canonical_json),
        ("finished", "model/metrics.json", READ, canonical_json),
        ("language", "model/recipe.json", {"recipe": LANGUAGE, "prompt": None}, canonical_json),
        ("language", "model/metrics.json", {"status": None, "after": {"loss": None}}, canonical_json),
        ("stopped", "model.checkpoint/metrics.json", STOP, canonical_json),
        ("stopped", "model.checkpoint/checkpoint-*/state.json", {"files": None, "format": None}, sealed),
    ],
)
def test_no_record_arrives_whose_fields_are_of_other_types(
    root: Path,
    kind: str,
    pattern: str,
    read: Any,
    finish: Callable[[Any], str],
    refused: Check,
    request: pytest.FixtureRequest,
) -> None:
    take(request.getfixturevalue(kind) / OUTPUTS, root)
    [path] = (root / OUTPUTS).glob(pattern)
    good = json.loads(path.read_text())
    good.pop("sha256", None)
    for name, changed in wrong_types(part(good, read)):
        if (whole := merged(good, changed, read)) != good:
            path.write_text(finish(whole))
            refused(name)


def test_the_list_of_an_archives_files_is_not_read_whatever_its_size(
    root: Path, monkeypatch: pytest.MonkeyPatch, refused: Check
) -> None:
    shutil.make_archive(str(root / "outputs"), "zip", root / OUTPUTS)
    shutil.move(root / "outputs.zip", root / OUTPUTS)
    monkeypatch.setattr(test_outputs, "_MAX_READ", 500)
    assert "its list of files has " in refused("a long list")


def read_only(folder: Path) -> None:
    """Takes away the permission to write, as Bazel 8 does."""
    for path in [*folder.rglob("*"), folder]:
        path.chmod(path.stat().st_mode & ~0o222)


def become_an_ordinary_user(folder: Path) -> None:
    """Gives up root's rights, which ignore modes, and takes the folder along; as root of a sandbox there is no way."""
    nobody = 65534
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.chown(folder, nobody, nobody)
            os.setuid(nobody)


def works_for_an_ordinary_user(work: Callable[[Path], None]) -> bool:
    """Calls a function with a folder that a user without root's rights owns; returns whether it raised nothing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        if (pid := os.fork()) == 0:
            try:
                become_an_ordinary_user(Path(folder))
                work(Path(folder))
                os._exit(0)
            except BaseException:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_of_read_only_outputs_the_copy_can_be_written_and_removed() -> None:
    def work(folder: Path) -> None:
        outputs = folder / "outputs"
        (outputs / "model").mkdir(parents=True)
        (outputs / "model" / "config.json").write_text("{}")
        read_only(outputs)
        with test_outputs.unpacked(outputs, scratch=folder / "scratch") as copy:
            (copy / "model" / "config.json").write_text("[]")
        assert not (folder / "scratch").exists()

    assert works_for_an_ordinary_user(work)


def test_a_second_checkpoint_replaces_one_that_was_copied_read_only() -> None:
    def work(folder: Path) -> None:
        (folder / "resume" / "model.checkpoint" / "checkpoint-1").mkdir(parents=True)
        (folder / "resume" / "model.checkpoint" / "checkpoint-1" / "state.json").touch()
        read_only(folder / "resume")
        collect.remove_folder(folder / "resume")
        assert not (folder / "resume").exists()

    assert works_for_an_ordinary_user(work)


def test_a_cache_that_fails_is_no_wrong_request_and_one_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CacheError(f"cannot write to {root}: its disk fails")

    monkeypatch.setattr(Store, "commit", fail)
    assert collect.main([]) == 1
    assert capsys.readouterr().err == f"collect: cannot write to {root}: its disk fails\n"


def test_where_the_old_checkpoint_cannot_be_removed_nothing_is_collected(
    root: Path, monkeypatch: pytest.MonkeyPatch, refused: Check
) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    collect.resume_folder(root, collect.DEFAULT_TEST).mkdir(parents=True)
    monkeypatch.setattr(collect, "delete", fail)
    assert "training_test cannot be removed (Operation not permitted): remove it" in refused("no removal")


@pytest.mark.parametrize("label", ["training_test", "//", "//../..:x", "//src/training:../x", "//a//b"])
def test_a_label_names_a_test_of_this_repository(root: Path, label: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert root.is_dir()
    assert collect.main([label]) == 2
    assert "is not the label of a test in this repository" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "flags"), [("finished", ()), ("language", LANGUAGE_FLAGS)])
def test_a_stopped_run_resumes_to_the_same_bits(
    root: Path,
    tmp_path: Path,
    kind: str,
    flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    uninterrupted = weights_in(request.getfixturevalue(kind) / OUTPUTS / "model")
    shutil.rmtree(root / OUTPUTS)
    assert train_in(root, root / OUTPUTS, *flags, "--deadline_seconds", "0.01", monkeypatch=monkeypatch) == 3
    assert collect.main([]) == 3
    assert "stopped_at_deadline" in capsys.readouterr().out
    # One file, so that nothing in it has a name in the workspace.
    left = [path.name for path in (root / "src/training").rglob("*")]
    assert left == ["resume", "training_test", "model.checkpoint.tar"]
    shutil.rmtree(root / OUTPUTS)
    (root / OUTPUTS).mkdir()
    # As run_training.sh does.
    archive = collect.resume_folder(root, collect.DEFAULT_TEST) / collect.RESUME_FILE
    subprocess.run(["tar", "--no-same-owner", "-xmf", archive, "-C", root / OUTPUTS], check=True)
    resumed = (*flags, "--resume_from_checkpoint", "true")
    assert train_in(root, root / OUTPUTS, *resumed, monkeypatch=monkeypatch) == 0
    assert weights_in(root / OUTPUTS / "model") == uninterrupted
    assert collect.main([]) == 0
    assert len(entries(tmp_path)) == 1
    assert not archive.exists()


def weights_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}


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


MERGED, ADAPTER = "model.safetensors", "adapter/adapter_model.safetensors"


@pytest.mark.parametrize(
    ("flags", "weights"),
    [([], {MERGED, ADAPTER}), (["--save_merged", "false"], {ADAPTER}), (["--use_peft", "false"], {MERGED})],
)
def test_a_language_model_is_collected_and_loads_out_of_the_cache(
    root: Path,
    tmp_path: Path,
    flags: list[str],
    weights: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(root / OUTPUTS)
    monkeypatch.setenv("TEST_TMPDIR", str(tmp_path))
    assert train_in(root, root / OUTPUTS, *LANGUAGE_FLAGS, *flags, monkeypatch=monkeypatch) == 0
    monkeypatch.delenv("TEST_TMPDIR")
    capsys.readouterr()
    assert collect.main([]) == 0
    assert capsys.readouterr().out.startswith("loss ")
    [key] = entries(tmp_path)
    entry = Store(tmp_path / "cache").lookup(key)
    assert entry is not None
    assert {path.relative_to(entry).as_posix() for path in entry.rglob("*.safetensors")} == weights
    assert type(load_model(entry)).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("name", [MERGED, ADAPTER])
def test_weights_that_are_no_numbers_are_refused(root: Path, language: Path, name: str, refused: Check) -> None:
    take(language / OUTPUTS, root)
    path = root / OUTPUTS / "model" / name
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:header] + b"\xff" * (len(content) - header))
    assert "logits are not finite" in refused(name)
