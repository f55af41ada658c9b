"""The results of doctor's checks, each with symptom, cause and remedy, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self

Level = Literal["ok", "warning", "error", "skipped"]
_MARKS: dict[Level, str] = {"ok": "ok     ", "warning": "warning", "error": "ERROR  ", "skipped": "skipped"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        level: ok, warning (works today, but will cause trouble), error (does not work), skipped (not checked).
        symptom: what was observed.
        cause: the likely reason; empty if there is no problem.
        remedy: what to do; empty if there is no problem.
    """

    check: str
    level: Level
    symptom: str
    cause: str = ""
    remedy: str = ""

    @classmethod
    def ok(cls, check: str, symptom: str) -> Self:
        """Returns the finding of a check that passed."""
        return cls(check=check, level="ok", symptom=symptom)

    @classmethod
    def error(cls, check: str, symptom: str, *, cause: str = "", remedy: str = "") -> Self:
        """Returns the finding of a check that failed."""
        return cls(check=check, level="error", symptom=symptom, cause=cause, remedy=remedy)


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether remote execution cannot work."""
    return any(finding.level == "error" for finding in findings)


def as_json(config: str, findings: Sequence[Finding]) -> str:
    """Returns the report for programs."""
    report = {
        "schema": 1,
        "config": config,
        "ok": not has_errors(findings),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2) + "\n"


def as_text(finding: Finding) -> str:
    """Returns the lines of one finding for people."""
    lines = [f"{_MARKS[finding.level]}  {finding.check}: {finding.symptom}"]
    lines += [f"         {word}: {text}" for word, text in (("cause", finding.cause), ("do", finding.remedy)) if text]
    return "\n".join(lines) + "\n"


def summary(findings: Sequence[Finding]) -> str:
    """Returns the last line of the report for people."""
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    return f"{errors} errors, {warnings} warnings in {len(findings)} checks\n"
