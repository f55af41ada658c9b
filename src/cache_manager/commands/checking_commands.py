"""verify, repair: whether every byte is what was committed, and what to do where it is not."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

from src.cache_manager.commands.command import Answer, Command
from src.cache_manager.store.repair import Repair, repair
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import CORRUPT, INCOMPLETE, Finding, inspect
from src.cli.errors import EXIT_DONE, EXIT_FAILED


def _verify(store: Store, given: argparse.Namespace) -> Answer:
    keys = [store.resolve(prefix) for prefix in given.keys] or sorted(store.keys())
    found = [inspect(store.layout, key, every_byte=True) for key in keys]
    # What was evicted while others were hashed is no finding.
    found = [finding for finding in found if store.path(finding.key).exists()]
    # An entry of another version is no damage: that version vouches for it.
    whole = not any(finding.state in (CORRUPT, INCOMPLETE) for finding in found)
    return Answer(
        document={"ok": whole, "entries": [finding.to_document() for finding in found]},
        lines=_findings(found),
        exit_code=EXIT_DONE if whole else EXIT_FAILED,
    )


def _findings(found: list[Finding]) -> Iterator[str]:
    for finding in found:
        yield f"{finding.key[:12]:<12}  {finding.state:<10}  {'; '.join(finding.problems)}".rstrip()
    bad = sum(finding.state in (CORRUPT, INCOMPLETE) for finding in found)
    yield f"{len(found)} models read" + (f", {bad} bad: `repair` mends or puts aside what is" if bad else ", none bad")


def _repair(store: Store, given: argparse.Namespace) -> Answer:
    done = repair(store, [store.resolve(prefix) for prefix in given.keys])
    return Answer(document={"entries": [dataclasses.asdict(each) for each in done]}, lines=_repairs(done))


def _repairs(done: list[Repair]) -> Iterator[str]:
    for each in done:
        yield f"{each.key[:12]:<12}  {each.action:<11}  {'; '.join(each.problems)}"
    if not done:
        yield "nothing to mend"


COMMANDS = (
    Command(
        name="verify",
        words=("[KEY...]",),
        summary="read every byte and compare it with its hash; exit code 1 if anything is bad",
        run=_verify,
    ),
    Command(
        name="repair",
        words=("[KEY...]",),
        summary="mend bad models from copies of the same bytes, and put the others aside",
        run=_repair,
    ),
)
