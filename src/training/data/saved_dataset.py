"""A folder saved by `datasets` (save_to_disk): whether it is one, whether it is complete, and its splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.cli.errors import RequestError, in_one_line
from src.disk.json_files import read_json
from src.training.data.tables import Table, dataset_tables

_SPLITS = "dataset_dict.json"
# Of each split. The second is written last but one, so a save that broke off lacks it.
_INFO, _STATE = "dataset_info.json", "state.json"
# Ends an Arrow stream (Arrow Columnar Format, "IPC Streaming Format"). Without it rows may be missing, and readers
# do not mind.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def saved_dataset_folder(name: str, *, folder: Path) -> Path | None:
    """Returns the folder that a dataset's name stands for; None: it is a name on the hub.

    By the name alone: a folder that happens to exist must not change what a recipe means.

    Args:
        name: of a dataset.
        folder: what a relative path is relative to.
    """
    return folder / Path(name).expanduser() if name.startswith((".", "/", "~")) else None


def saved_dataset_mistakes(values: Mapping[str, Any], *, folder: Path) -> list[str]:
    """Returns one phrase for each thing that is wrong with a recipe's dataset_name as a folder.

    Args:
        values: fields of a recipe.
        folder: what a relative path is relative to.
    """
    name = values.get("dataset_name") or ""
    path = saved_dataset_folder(name, folder=folder)
    if path is None:
        is_saved = bool(name) and _is_saved(folder / name)
        return [f"dataset_name {name} is also a folder saved by datasets: write ./{name} to use it"] if is_saved else []
    fault = saved_dataset_fault(path)
    mistakes = [f"dataset_name {name} {fault}"] if fault else []
    return mistakes + [
        f"{key} is for a hub dataset, not for a folder"
        for key in ("dataset_config_name", "dataset_revision")
        if values.get(key) is not None
    ]


def _is_saved(path: Path) -> bool:
    return any((path / name).is_file() for name in (_SPLITS, _INFO, _STATE))


def saved_dataset_fault(path: Path) -> str | None:
    """Returns what is wrong with a folder, as a phrase that follows its name; None if nothing is."""
    if not path.is_dir():
        return "is a file: name it with --train_file" if path.exists() else "does not exist"
    if not _is_saved(path):
        return "is not a folder saved by datasets: name files with --train_file, or save it with save_to_disk"
    try:
        missing = _missing(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        missing = f"its description cannot be read: {' '.join(str(error).split())}"
    return missing and f"is not a complete dataset ({missing}): save it again with save_to_disk"


def _missing(path: Path) -> str | None:
    """Returns what a saved dataset lacks; None if it is complete."""
    if (path / _SPLITS).is_file() and not (path / _STATE).is_file():
        names = read_json(path / _SPLITS)["splits"]
        return next((lack for lack in (_missing_of_split(path / name, f"{name}/") for name in names) if lack), None)
    return _missing_of_split(path, "")


def _missing_of_split(path: Path, prefix: str) -> str | None:
    for name in (_STATE, _INFO):
        if not (path / name).is_file():
            return f"{prefix}{name} is missing"
    entries = read_json(path / _STATE)["_data_files"]
    if not entries:
        return f"{prefix}{_STATE} names no rows"
    for entry in entries:
        file = path / entry["filename"]
        if not file.is_file():
            return f"{prefix}{file.name} is missing"
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - len(_END_OF_STREAM)))
            if stream.read() != _END_OF_STREAM:
                return f"{prefix}{file.name} is cut off"
    return None


def read_saved_dataset(path: Path, *, role: str) -> dict[str, Table]:
    """Reads a folder saved by `datasets`. Returns its splits by `train`, `validation`, `test`.

    Args:
        path: of the folder.
        role: the split to read; also the split of rows that were saved without splits.

    Raises:
        RequestError: it is not such a folder, it is incomplete, or it lacks the split.
    """
    if (fault := saved_dataset_fault(path)) is not None:
        raise RequestError(f"{path} {fault}")
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    try:
        loaded: Any = datasets.load_from_disk(path)
        splits = loaded if isinstance(loaded, datasets.DatasetDict) else {role: loaded}
        for split in splits.values():
            # Nothing else looks at the bytes before they are taken for lengths and letters.
            split.data.table.validate(full=True)
        tables = dataset_tables(splits, origin=path.resolve().name)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path} cannot be read as a saved dataset ({in_one_line(error, limit=200)}): save it again"
        ) from error
    if role not in tables:
        raise RequestError(f"{path} has no {role} split: it has {', '.join(splits) or 'none'}")
    if not tables[role].rows:
        raise RequestError(f"{tables[role].origin} has no rows: save it with at least one")
    return tables
