"""What the Hugging Face cache holds, by its own API, which knows HF_HOME and revisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from src.training.model.model_files import shards

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def cached_snapshot(model_name: str, revision: str = "main", *, cache_dir: Path | None = None) -> Path | None:
    """Returns the folder of a model in the hub cache if its config and all of its weights are present.

    Args:
        model_name: a hub name, `org/model` or `model`.
        revision: branch, tag or commit.
        cache_dir: the hub cache; by default that of HF_HOME or HF_HUB_CACHE.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model_name, "config.json", revision=revision, cache_dir=cache_dir)
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    """Whether one whole set of weights is present. A link to a missing blob does not count."""
    if any((folder / name).is_file() for name in _WEIGHTS):
        return True
    for name in _INDEX:
        if (folder / name).is_file():
            try:
                return all((folder / shard).is_file() for shard in shards(folder / name))
            except ValueError:
                # No loader can read it either.
                return False
    return False


def cached_repositories(cache_dir: Path | None = None) -> tuple[Path, list[dict[str, Any]]]:
    """Returns the folder of the hub cache, and one dict for each revision of a repository in it.

    Each is {"name", "type", "commit", "refs", "size_bytes", "last_used", "complete", "path"}. A model is complete if
    its config and all of its weights are present; any other repository, if no link is broken.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import CacheNotFound

    folder = cache_dir or Path(HF_HUB_CACHE)
    try:
        cache = scan_cache_dir(folder)
    except CacheNotFound:
        return folder, []
    return folder, [
        {
            "name": repository.repo_id,
            "type": repository.repo_type,
            "commit": revision.commit_hash,
            "refs": sorted(revision.refs),
            "size_bytes": revision.size_on_disk,
            "last_used": repository.last_accessed,
            "complete": _is_complete(revision.snapshot_path, is_model=repository.repo_type == "model"),
            "path": str(revision.snapshot_path),
        }
        for repository in sorted(cache.repos, key=lambda repository: repository.repo_id)
        for revision in sorted(repository.revisions, key=lambda revision: revision.commit_hash)
    ]


def _is_complete(folder: Path, *, is_model: bool) -> bool:
    if any(path.is_symlink() and not path.exists() for path in folder.rglob("*")):
        return False
    return not is_model or ((folder / "config.json").is_file() and _has_weights(folder))
