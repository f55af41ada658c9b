"""ls, info, path, hub: what this cache and the Hugging Face cache hold."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from src.cache_manager.commands.command import Answer, Commands, add_command
from src.cache_manager.hub import cached_repositories
from src.cache_manager.store.records import Record, iso_time, record_of, records
from src.cache_manager.store.store import Store
from src.cli.errors import RequestError
from src.cli.formats import show_size


def add_commands(commands: Commands) -> None:
    """Adds ls, info, path and hub."""
    add_command(commands, "ls", _ls, summary="list every model, the last used first")
    parser = add_command(commands, "info", _info, summary="show all that is known of a model")
    parser.add_argument("key", metavar="KEY", help="model to describe")
    parser = add_command(commands, "path", _path, summary="print the folder of a model, if it is whole")
    parser.add_argument("key", metavar="KEY", help="model to find")
    add_command(commands, "hub", _hub, summary="list what the Hugging Face cache holds (HF_HOME, HF_HUB_CACHE)")


def _ls(store: Store, options: argparse.Namespace) -> Answer:
    del options
    found = records(store)
    return Answer(data=[record.to_dict() for record in found], lines=_table(store, found))


def _table(store: Store, found: list[Record]) -> Iterator[str]:
    for record in sorted(found, key=lambda record: -record.last_used):
        pinned = "  pinned" if record.pinned else ""
        yield (
            f"{record.key[:12]:<12}  {show_size(record.size_bytes):>9}  {record.state:<10}  "
            f"{_ago(record.last_used):>14}  {record.model_name or '?'}{pinned}"
        )
    total = f" of {show_size(store.budget.limit)}" if store.budget.limit is not None else ""
    yield f"{len(found)} models, {show_size(store.budget.used())}{total}, in {store.layout.root}"


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


def _info(store: Store, options: argparse.Namespace) -> Answer:
    record = record_of(store, store.resolve(options.key))
    manifest = record.manifest
    files = {} if manifest is None else manifest.files
    data = {
        **record.to_dict(),
        "path": str(store.path(record.key)),
        "in_use": record.key in store.usage.in_use(),
        "problems": list(record.problems),
        "files": [{"name": name, "size_bytes": file.size, "sha256": file.sha256} for name, file in files.items()],
        "document": None if manifest is None else manifest.document,
    }
    return Answer(data=data, lines=_describe(record, path=str(data["path"])))


def _describe(record: Record, *, path: str) -> Iterator[str]:
    yield f"key        {record.key}"
    yield f"model      {record.model_name}" + (f" at {record.revision}" if record.revision else "")
    yield f"state      {record.state}" + "".join(f"; {problem}" for problem in record.problems)
    yield f"created    {'unknown' if record.created is None else iso_time(record.created)}"
    yield f"last used  {iso_time(record.last_used)}{', pinned' if record.pinned else ''}"
    yield f"path       {path}"
    for name, file in ({} if record.manifest is None else record.manifest.files).items():
        yield f"{show_size(file.size):>9}  {file.sha256[:12]}  {name}"


def _path(store: Store, options: argparse.Namespace) -> Answer:
    key = store.resolve(options.key)
    folder = store.lookup(key)
    if folder is None:
        raise RequestError(f"the entry {key[:16]} is not whole: `verify` says what is wrong with it")
    return Answer(data={"key": key, "path": str(folder)}, lines=[str(folder)])


def _hub(store: Store, options: argparse.Namespace) -> Answer:
    del store, options
    folder, revisions = cached_repositories()
    lines = [
        f"{each['commit'][:12]:<12}  {show_size(each['size_bytes']):>9}  "
        f"{'whole' if each['complete'] else 'incomplete':<10}  {each['name']}"
        + (f" ({', '.join(each['refs'])})" if each["refs"] else "")
        for each in revisions
    ]
    return Answer(data=revisions, lines=[*lines, f"{len(revisions)} revisions in {folder}"])
