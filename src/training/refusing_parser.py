"""Command lines whose mistakes are told in one sentence."""

from __future__ import annotations

import argparse
from typing import NoReturn

from src.training.errors import RequestError


class RefusingParser(argparse.ArgumentParser):
    """An argument parser that raises RequestError where argparse's own prints its usage and leaves the program."""

    def error(self, message: str) -> NoReturn:
        """Raises RequestError."""
        raise RequestError(f"{message.removeprefix('argument ')}: see --help")
