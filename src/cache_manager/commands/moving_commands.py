"""import, export, push, pull: models in and out."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from src.cache_manager.commands.command import Answer, Command
from src.cache_manager.sharing.shared_cache import Remote, Sent
from src.cache_manager.sharing.transfer import export_entry, import_folder
from src.cache_manager.store.store import Store
from src.cli.formats import show_size
from src.cli.working_folder import working_folder


def _import(store: Store, given: argparse.Namespace) -> Answer:
    entry = import_folder(store, _folder(given.dir), model_name=given.name, allow_pickle=given.allow_pickle)
    return Answer(document={"key": entry.name, "path": str(entry)}, lines=[f"{entry.name[:12]} imported: {entry}"])


def _export(store: Store, given: argparse.Namespace) -> Answer:
    key = store.resolve(given.key)
    folder = export_entry(store, key, _folder(given.dir))
    return Answer(document={"key": key, "path": str(folder)}, lines=[f"{key[:12]} exported to {folder}"])


def _push(store: Store, given: argparse.Namespace) -> Answer:
    remote = Remote(_url(given.url))
    return _sent(remote, remote.push(store, store.resolve(given.key), force=given.force), verb="pushed to")


def _pull(store: Store, given: argparse.Namespace) -> Answer:
    remote = Remote(_url(given.url))
    return _sent(remote, remote.pull(store, remote.resolve(given.key)), verb="pulled from")


def _sent(remote: Remote, sent: Sent, *, verb: str) -> Answer:
    return Answer(
        document={"key": sent.key, "url": remote.url, "files": sent.files, "bytes": sent.bytes},
        lines=[f"{sent.key[:12]} {verb} {remote.url}: {sent.files} files, {show_size(sent.bytes)}"],
    )


def _folder(name: str) -> Path:
    """Returns a folder as the user meant it: from where the command was typed."""
    return working_folder() / Path(name).expanduser()


def _url(text: str) -> str:
    return text if re.match(r"[a-z][a-z0-9+.-]*:", text) else _folder(text).resolve().as_uri()


COMMANDS = (
    Command(
        name="import",
        words=("DIR",),
        values=(("--name", "what `ls` shows (default: the folder's name)"),),
        switches=(("--allow-pickle", "take files as well that run code when they are loaded"),),
        summary="copy a model's folder into the cache",
        run=_import,
    ),
    Command(name="export", words=("KEY", "DIR"), summary="copy a model into a folder of its own", run=_export),
    Command(
        name="push",
        words=("KEY", "URL"),
        switches=(("--force", "send files as well that are there already"),),
        summary="send a model to a shared cache: a folder, file://, s3://, gs://",
        run=_push,
    ),
    Command(name="pull", words=("KEY", "URL"), summary="fetch a model from there, verified on arrival", run=_pull),
)
