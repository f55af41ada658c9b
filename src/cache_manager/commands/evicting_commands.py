"""gc, pin, unpin, rm: which models are kept."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from src.cache_manager.commands.command import Answer, Commands, add_command
from src.cache_manager.store.evict import Plan, empty_quarantine, execute, plan, remove
from src.cache_manager.store.store import Store
from src.cache_manager.store.sweep import remove_old_trainings, sweep
from src.cli.errors import RequestError
from src.cli.formats import parse_age, parse_size, show_size


def add_commands(commands: Commands) -> None:
    """Adds gc, pin, unpin and rm."""
    gc = add_command(
        commands, "gc", _gc, summary="remove leftovers, and models by size or age; never one that is pinned or in use"
    )
    limits = gc.add_argument_group("limits")
    limits.add_argument(
        "--max_size",
        metavar="SIZE",
        help="evict the least recently used models until the cache fits, such as 5GB "
        "(default: $FINETUNE_CACHE_MAX_SIZE)",
    )
    limits.add_argument("--max_age", metavar="AGE", help="evict models that were not used for this long, such as 30d")
    execution = gc.add_argument_group("execution")
    execution.add_argument("--yes", action="store_true", help="evict; without it, only the plan is shown")
    for name, run, summary in (
        ("pin", _pin, "never evict these models"),
        ("unpin", _unpin, "let these models be evicted again"),
        ("rm", _rm, "remove these models now"),
    ):
        add_command(commands, name, run, summary=summary).add_argument("keys", nargs="+", metavar="KEY", help="models")


def _gc(store: Store, options: argparse.Namespace) -> Answer:
    max_size = store.budget.limit if options.max_size is None else parse_size(options.max_size, name="--max_size")
    max_age = None if options.max_age is None else parse_age(options.max_age, name="--max_age")
    # Leftovers of dead processes are removed without a plan: no entry needs them.
    swept = sweep(store)
    store.blobs.sweep()
    if options.yes:
        empty_quarantine(store)
        if max_age is not None:
            remove_old_trainings(store, older_than=max_age)
    chosen = plan(store, max_size=max_size, max_age=max_age)
    freed, kept = chosen.freed_bytes, chosen.kept_bytes
    if options.yes:
        freed = execute(store, chosen)
        kept = store.budget.used()
    data = {
        "planned": [eviction.to_dict() for eviction in chosen.evictions],
        "quarantined": len(chosen.quarantined),
        "freed_bytes": freed,
        "kept_bytes": kept,
        "done": options.yes,
        "swept": swept,
    }
    return Answer(data=data, lines=_plan_lines(chosen, freed=freed, kept=kept, swept=swept, done=options.yes))


def _plan_lines(chosen: Plan, *, freed: int, kept: int, swept: int, done: bool) -> Iterator[str]:
    for eviction in chosen.evictions:
        record = eviction.record
        yield f"{record.key[:12]}  {show_size(eviction.frees):>9}  {eviction.why:<20}  {record.model_name or '?'}"
    if chosen.quarantined:
        yield f"{len(chosen.quarantined)} quarantined models, before their week is over"
    if swept:
        yield f"{swept} leftovers of dead processes removed"
    verb = "freed" if done else "would be freed"
    yield f"{len(chosen.evictions)} models, {show_size(freed)} {verb}; {show_size(kept)} kept"
    if (chosen.evictions or chosen.quarantined) and not done:
        yield "this is only a plan: --yes carries it out"


def _pin(store: Store, options: argparse.Namespace) -> Answer:
    keys = [store.resolve(prefix) for prefix in options.keys]
    for key in keys:
        store.usage.pin(key)
    gone = [key for key in keys if not store.path(key).exists()]
    if gone:
        raise RequestError(f"the entry {gone[0][:16]} was evicted at the same moment: train or pull it again")
    return Answer(data=[{"key": key, "pinned": True} for key in keys], lines=[f"{key[:12]} pinned" for key in keys])


def _unpin(store: Store, options: argparse.Namespace) -> Answer:
    keys = [store.resolve(prefix) for prefix in options.keys]
    for key in keys:
        store.usage.unpin(key)
    return Answer(
        data=[{"key": key, "pinned": False} for key in keys], lines=[f"{key[:12]} not pinned" for key in keys]
    )


def _rm(store: Store, options: argparse.Namespace) -> Answer:
    keys = list(dict.fromkeys(store.resolve(prefix) for prefix in options.keys))
    pinned, in_use = store.usage.pinned(), store.usage.in_use()
    # All are asked for before the first one goes.
    for key in keys:
        if key in pinned:
            raise RequestError(f"the entry {key[:16]} is pinned: `unpin` it first")
        if key in in_use:
            raise RequestError(f"the entry {key[:16]} is in use by a running process: try again when it has ended")
    before = store.budget.used()
    removed = [key for key in keys if remove(store, key, why="rm")]
    store.blobs.sweep()
    freed = max(0, before - store.budget.used())
    return Answer(
        data={"removed": removed, "freed_bytes": freed},
        lines=[*(f"{key[:12]} removed" for key in removed), f"{show_size(freed)} freed"],
    )
