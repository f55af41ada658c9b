"""hub: what the Hugging Face cache holds."""

from __future__ import annotations

import argparse

from src.cache_manager.commands.command import Answer, Command
from src.cache_manager.hub import cached_repositories
from src.cache_manager.store.store import Store
from src.cli.formats import show_size


def _hub(store: Store, given: argparse.Namespace) -> Answer:
    del store, given
    folder, found = cached_repositories()
    lines = [
        f"{each['commit'][:12]:<12}  {show_size(each['size_bytes']):>9}  "
        f"{'whole' if each['complete'] else 'incomplete':<10}  {each['name']}"
        + (f" ({', '.join(each['refs'])})" if each["refs"] else "")
        for each in found
    ]
    return Answer(document=found, lines=[*lines, f"{len(found)} revisions in {folder}"])


COMMANDS = (Command(name="hub", summary="what the Hugging Face cache holds (HF_HOME, HF_HUB_CACHE)", run=_hub),)
