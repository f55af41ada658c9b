"""Command lines whose mistakes are reported in one sentence."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import NoReturn

from src.cli.errors import RequestError


class RefusingParser(argparse.ArgumentParser):
    """An argument parser that raises RequestError where argparse's own prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Raises RequestError."""
        raise RequestError(f"{message.removeprefix('argument ')}: see --help")


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """Returns ` (did you mean X?)`, or the empty string if nothing is close."""
    near = difflib.get_close_matches(wrong, list(valid), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
