"""verify, repair: whether every byte is what was committed, and what to do where it is not."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

from src.cache_manager.commands.command import Answer, Commands, add_command
from src.cache_manager.store.repair import Repair, repair
from src.cache_manager.store.store import Store
from src.cache_manager.store.verify import CORRUPT, INCOMPLETE, Finding, inspect
from src.cli.errors import EXIT_DONE, EXIT_FAILED


def add_commands(commands: Commands) -> None:
    """Adds verify and repair."""
    verify_parser = add_command(
        commands, "verify", _verify, summary="hash every file and compare with what was committed"
    )
    verify_parser.add_argument("keys", nargs="*", metavar="KEY", help="models to read (default: all)")
    repair_parser = add_command(
        commands, "repair", _repair, summary="fix bad models from other copies of the same bytes, quarantine the rest"
    )
    repair_parser.add_argument("keys", nargs="*", metavar="KEY", help="models to repair (default: all)")


def _verify(store: Store, options: argparse.Namespace) -> Answer:
    keys = [store.resolve(prefix) for prefix in options.keys] or sorted(store.keys())
    findings = [inspect(store.layout, key, every_byte=True) for key in keys]
    # What was evicted while others were hashed is no finding.
    findings = [finding for finding in findings if store.path(finding.key).exists()]
    all_ok = not any(_is_bad(finding) for finding in findings)
    return Answer(
        data={"ok": all_ok, "entries": [finding.to_dict() for finding in findings]},
        lines=_finding_lines(findings),
        exit_code=EXIT_DONE if all_ok else EXIT_FAILED,
    )


def _is_bad(finding: Finding) -> bool:
    """Whether an entry is damaged. One of another version is not: that version vouches for it."""
    return finding.state in (CORRUPT, INCOMPLETE)


def _finding_lines(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.key[:12]:<12}  {finding.state:<10}  {'; '.join(finding.problems)}".rstrip()
    bad = sum(_is_bad(finding) for finding in findings)
    yield f"{len(findings)} models read, " + (f"{bad} bad: `repair` fixes or quarantines them" if bad else "none bad")


def _repair(store: Store, options: argparse.Namespace) -> Answer:
    repairs = repair(store, [store.resolve(prefix) for prefix in options.keys])
    return Answer(data={"entries": [dataclasses.asdict(each) for each in repairs]}, lines=_repair_lines(repairs))


def _repair_lines(repairs: list[Repair]) -> Iterator[str]:
    for each in repairs:
        yield f"{each.key[:12]:<12}  {each.action:<11}  {'; '.join(each.problems)}"
    if not repairs:
        yield "nothing to repair"
