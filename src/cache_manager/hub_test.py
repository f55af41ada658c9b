"""The hub cache is asked for a revision, and for all of it."""

from __future__ import annotations

import json
from pathlib import Path

from src.cache_manager.hub import cached_repositories, cached_snapshot

COMMIT = "1" * 40


def hub_cache(root: Path, files: dict[str, str], *, commit: str = COMMIT) -> Path:
    """Lays out a hub cache with one model: blobs, a snapshot of links to them, and a branch."""
    model = root / "models--org--model"
    snapshot = model / "snapshots" / commit
    (model / "blobs").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (model / "blobs" / f"blob-{name}").write_text(content)
        (snapshot / name).symlink_to(Path("../../blobs") / f"blob-{name}")
    return root


def test_a_whole_model_is_found_by_branch_and_by_commit(tmp_path: Path) -> None:
    root = hub_cache(tmp_path, {"config.json": "{}", "model.safetensors": "w"})
    for revision in ("main", COMMIT):
        found = cached_snapshot("org/model", revision, cache_dir=root)
        assert found is not None and found.name == COMMIT


def test_another_revision_is_not_found(tmp_path: Path) -> None:
    root = hub_cache(tmp_path, {"config.json": "{}", "model.safetensors": "w"})
    assert cached_snapshot("org/model", "2" * 40, cache_dir=root) is None


def test_a_config_without_weights_is_not_a_model(tmp_path: Path) -> None:
    root = hub_cache(tmp_path, {"config.json": "{}"})
    assert cached_snapshot("org/model", cache_dir=root) is None


def test_a_link_to_weights_that_are_gone_does_not_count(tmp_path: Path) -> None:
    root = hub_cache(tmp_path, {"config.json": "{}", "model.safetensors": "w"})
    (root / "models--org--model" / "blobs" / "blob-model.safetensors").unlink()
    assert cached_snapshot("org/model", cache_dir=root) is None


def test_every_shard_has_to_be_there(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    files = {"config.json": "{}", "model.safetensors.index.json": index, "model-1.safetensors": "w"}
    assert cached_snapshot("org/model", cache_dir=hub_cache(tmp_path / "one", files)) is None
    files["model-2.safetensors"] = "w"
    assert cached_snapshot("org/model", cache_dir=hub_cache(tmp_path / "two", files)) is not None


def test_an_unknown_or_impossible_name_is_not_found(tmp_path: Path) -> None:
    assert cached_snapshot("org/model", cache_dir=tmp_path) is None
    assert cached_snapshot("a/b/c", cache_dir=tmp_path) is None


def test_every_revision_is_listed_with_whether_it_is_whole(tmp_path: Path) -> None:
    root = hub_cache(tmp_path, {"config.json": "{}", "model.safetensors": "weights"})
    folder, (found,) = cached_repositories(root)
    assert folder == root and found["path"].endswith(COMMIT) and found["size_bytes"] == len("{}weights")
    assert (found["name"], found["commit"], found["refs"]) == ("org/model", COMMIT, ["main"])
    assert found["complete"]
    (root / "models--org--model" / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert not cached_repositories(root)[1][0]["complete"]


def test_a_hub_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert cached_repositories(tmp_path / "missing") == (tmp_path / "missing", [])
