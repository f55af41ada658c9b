"""import, export, push, pull: models in and out."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from src.cache_manager.commands.command import Answer, Commands, add_command
from src.cache_manager.sharing.shared_cache import SharedCache, Transferred
from src.cache_manager.sharing.transfer import export_entry, import_folder
from src.cache_manager.store.store import Store
from src.cli.formats import show_size
from src.cli.working_folder import working_folder


def add_commands(commands: Commands) -> None:
    """Adds import, export, push and pull."""
    parser = add_command(commands, "import", _import, summary="copy the files of a model into the cache")
    parser.add_argument("dir", metavar="DIR", help="folder with config.json and safetensors")
    entry = parser.add_argument_group("entry")
    entry.add_argument("--name", help="model name that `ls` shows (default: the folder's name)")
    entry.add_argument(
        "--allow_pickle", action="store_true", help="also take pytorch_model.bin, which may run code when it is loaded"
    )

    parser = add_command(commands, "export", _export, summary="copy a model into a new folder")
    parser.add_argument("key", metavar="KEY", help="model to copy")
    parser.add_argument("dir", metavar="DIR", help="new or empty folder")

    url_help = "shared cache: a folder, or a URL such as file://, s3:// or gs://"
    parser = add_command(commands, "push", _push, summary="upload a model to a shared cache")
    parser.add_argument("key", metavar="KEY", help="model to upload")
    parser.add_argument("url", metavar="URL", help=url_help)
    upload = parser.add_argument_group("upload")
    upload.add_argument("--force", action="store_true", help="upload files even if the shared cache has them")

    parser = add_command(commands, "pull", _pull, summary="download a model from a shared cache and verify it")
    parser.add_argument("key", metavar="KEY", help="model to download")
    parser.add_argument("url", metavar="URL", help=url_help)


def _import(store: Store, options: argparse.Namespace) -> Answer:
    folder = _folder(options.dir)
    imported = import_folder(store, folder, model_name=options.name, allow_pickle=options.allow_pickle)
    entry, left_out = imported.entry, imported.left_out
    lines = [f"{entry.name[:12]} imported: {entry}"]
    if left_out:
        some = ", ".join(left_out[:4]) + (", ..." if len(left_out) > 4 else "")
        lines.append(f"left out as no part of a model: {len(left_out)} ({some})")
    return Answer(data={"key": entry.name, "path": str(entry), "left_out": left_out}, lines=lines)


def _export(store: Store, options: argparse.Namespace) -> Answer:
    key = store.resolve(options.key)
    folder = export_entry(store, key, _folder(options.dir))
    return Answer(data={"key": key, "path": str(folder)}, lines=[f"{key[:12]} exported to {folder}"])


def _push(store: Store, options: argparse.Namespace) -> Answer:
    shared = SharedCache(_url(options.url))
    return _transferred(shared, shared.push(store, store.resolve(options.key), force=options.force), verb="pushed to")


def _pull(store: Store, options: argparse.Namespace) -> Answer:
    shared = SharedCache(_url(options.url))
    return _transferred(shared, shared.pull(store, shared.resolve(options.key)), verb="pulled from")


def _transferred(shared: SharedCache, moved: Transferred, *, verb: str) -> Answer:
    return Answer(
        data={"key": moved.key, "url": shared.url, "files": moved.files, "bytes": moved.bytes},
        lines=[f"{moved.key[:12]} {verb} {shared.url}: {moved.files} files, {show_size(moved.bytes)}"],
    )


def _folder(name: str) -> Path:
    """Returns a folder as the user meant it: from where the command was typed."""
    return working_folder() / Path(name).expanduser()


def _url(text: str) -> str:
    return text if re.match(r"[a-z][a-z0-9+.-]*:", text) else _folder(text).resolve().as_uri()
