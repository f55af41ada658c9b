"""What doctor finds: each with its symptom, its cause and what to do, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "error", "skipped"]
_MARKS: dict[Level, str] = {"ok": "ok     ", "warning": "warning", "error": "ERROR  ", "skipped": "skipped"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        level: ok, warning (works today, and will bite), error (does not work), skipped (could not be looked at).
        symptom: what was seen.
        cause: why, as far as it is known; empty where all is well.
        remedy: what to do; empty where all is well.
    """

    check: str
    level: Level
    symptom: str
    cause: str = ""
    remedy: str = ""


def has_errors(found: Sequence[Finding]) -> bool:
    """Whether remote execution cannot work as it is."""
    return any(finding.level == "error" for finding in found)


def as_json(config: str, found: Sequence[Finding]) -> str:
    """Returns the report for programs."""
    document = {
        "schema": 1,
        "config": config,
        "ok": not has_errors(found),
        "findings": [asdict(each) for each in found],
    }
    return json.dumps(document, indent=2) + "\n"


def as_text(finding: Finding) -> str:
    """Returns the lines of one finding for people."""
    lines = [f"{_MARKS[finding.level]}  {finding.check}: {finding.symptom}"]
    lines += [f"         {word}: {text}" for word, text in (("cause", finding.cause), ("do", finding.remedy)) if text]
    return "\n".join(lines) + "\n"


def summary(found: Sequence[Finding]) -> str:
    """Returns the last line of the report for people."""
    wrong = sum(finding.level == "error" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    return f"{wrong} errors, {warnings} warnings in {len(found)} checks\n"
