"""gc, pin, unpin, rm: what stays and what goes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from src.cache_manager.commands.command import Answer, Command
from src.cache_manager.store.evict import Plan, execute, plan, remove
from src.cache_manager.store.store import Store
from src.cache_manager.store.sweep import QUARANTINE_SECONDS, empty_quarantine, remove_old_trainings, sweep
from src.cli.errors import RequestError
from src.cli.formats import parse_age, parse_size, show_size


def _gc(store: Store, given: argparse.Namespace) -> Answer:
    max_size = store.budget.limit if given.max_size is None else parse_size(given.max_size, name="--max-size")
    max_age = None if given.max_age is None else parse_age(given.max_age, name="--max-age")
    # What dead processes left belongs to nobody and counts for nothing: it needs no plan.
    swept = sweep(store)
    store.blobs.sweep()
    if given.yes:
        over = max_size is not None and store.budget.used() > max_size
        empty_quarantine(store, older_than=0.0 if over else QUARANTINE_SECONDS)
        if max_age is not None:
            remove_old_trainings(store, older_than=max_age)
    chosen = plan(store, max_size=max_size, max_age=max_age)
    freed, kept = chosen.freed_bytes, chosen.kept_bytes
    if given.yes:
        freed = execute(store, chosen)
        kept = store.budget.used()
    document = {
        "planned": [planned.to_document() for planned in chosen.planned],
        "freed_bytes": freed,
        "kept_bytes": kept,
        "done": given.yes,
        "swept": swept,
    }
    return Answer(document=document, lines=_plan_lines(chosen, freed=freed, kept=kept, swept=swept, done=given.yes))


def _plan_lines(chosen: Plan, *, freed: int, kept: int, swept: int, done: bool) -> Iterator[str]:
    for planned in chosen.planned:
        record = planned.record
        yield f"{record.key[:12]}  {show_size(planned.frees):>9}  {planned.why:<20}  {record.model_name or '?'}"
    if swept:
        yield f"{swept} leftovers of dead processes removed"
    verb = "freed" if done else "would be freed"
    yield f"{len(chosen.planned)} models, {show_size(freed)} {verb}; {show_size(kept)} kept"
    if chosen.planned and not done:
        yield "this is a plan: --yes does it"


def _pin(store: Store, given: argparse.Namespace) -> Answer:
    keys = [store.resolve(prefix) for prefix in given.keys]
    for key in keys:
        store.usage.pin(key)
    gone = [key for key in keys if not store.path(key).exists()]
    if gone:
        raise RequestError(f"the entry {gone[0][:16]} was evicted at this very moment: train or pull it again")
    return Answer(document=[{"key": key, "pinned": True} for key in keys], lines=[f"{key[:12]} pinned" for key in keys])


def _unpin(store: Store, given: argparse.Namespace) -> Answer:
    keys = [store.resolve(prefix) for prefix in given.keys]
    for key in keys:
        store.usage.unpin(key)
    return Answer(
        document=[{"key": key, "pinned": False} for key in keys], lines=[f"{key[:12]} not pinned" for key in keys]
    )


def _rm(store: Store, given: argparse.Namespace) -> Answer:
    keys = list(dict.fromkeys(store.resolve(prefix) for prefix in given.keys))
    pinned, in_use = store.usage.pinned(), store.usage.in_use()
    # All are asked for before the first one goes.
    for key in keys:
        if key in pinned:
            raise RequestError(f"the entry {key[:16]} is pinned: `unpin` it first")
        if key in in_use:
            raise RequestError(f"the entry {key[:16]} is in use by a running process: try again when that has ended")
    before = store.budget.used()
    removed = [key for key in keys if remove(store, key, why="rm")]
    store.blobs.sweep()
    freed = max(0, before - store.budget.used())
    return Answer(
        document={"removed": removed, "freed_bytes": freed},
        lines=[*(f"{key[:12]} removed" for key in removed), f"{show_size(freed)} freed"],
    )


COMMANDS = (
    Command(
        name="gc",
        values=(
            ("--max-size", "evict the least recently used until the cache holds this much, such as 5GB"),
            ("--max-age", "evict what was not used for this long, such as 30d"),
        ),
        switches=(("--yes", "do it; without, the plan is shown"),),
        summary="remove leftovers, and models by size or age; never one that is pinned or in use",
        run=_gc,
    ),
    Command(name="pin", words=("KEY...",), summary="never evict these models", run=_pin),
    Command(name="unpin", words=("KEY...",), summary="let them go again", run=_unpin),
    Command(name="rm", words=("KEY...",), summary="remove these models now", run=_rm),
)
