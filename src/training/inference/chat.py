"""A conversation on the terminal: every question is asked with all that was said before it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from src.cli.errors import RequestError
from src.training.data.conversations import Turn
from src.training.inference.generator import Answer
from src.training.inference.prompts import Prompt
from src.training.inference.text_generator import TextGenerator

_ASKS = "> "


def chat(generator: TextGenerator, answer: Callable[[list[int]], Answer], *, program: str) -> None:
    """Answers standard input line by line until it ends. A KeyboardInterrupt ends an answer, or the conversation.

    Args:
        generator: the model.
        answer: generates and shows the answer to a prompt's tokens.
        program: its name, for messages.
    """
    said: list[Turn] = []
    for number, question in enumerate(_questions(), 1):
        said.append(Turn(role="user", content=question))
        try:
            ids, forgotten = _fitting(said, generator, number)
        except RequestError as refusal:
            # The conversation goes on without this question.
            sys.stderr.write(f"{program}: {refusal}\n")
            said.pop()
            continue
        if forgotten:
            sys.stderr.write(f"{program}: the conversation is too long for the model: its beginning is forgotten\n")
            del said[:forgotten]
        try:
            said.append(Turn(role="assistant", content=generator.text(answer(ids))))
        except KeyboardInterrupt:
            # Ends the answer; the conversation goes on as if it had not been asked for.
            sys.stderr.write("\n")
            said.pop()


def _questions() -> Iterator[str]:
    """Yields lines that hold something."""
    if sys.stdin.isatty():
        # Gives input() a line that can be edited, and a history.
        import readline  # noqa: F401
    while True:
        try:
            line = input(_ASKS) if sys.stdin.isatty() and sys.stdout.isatty() else input()
        except EOFError:
            return
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            return
        except UnicodeDecodeError as error:
            raise RequestError("standard input is not UTF-8: convert it first") from error
        if line.strip():
            yield line


def _fitting(said: list[Turn], generator: TextGenerator, number: int) -> tuple[list[int], int]:
    """Returns the tokens to ask with, and how many turns at the beginning had to be left out of them.

    Raises:
        RequestError: not even the last question fits.
    """
    place = f"question {number}"
    for start in range(0, len(said), 2):
        turns = tuple(said[start:])
        try:
            return generator.prompt_ids(Prompt(place=place, column="messages", asked=turns)), start
        except RequestError:
            if len(turns) == 1:
                raise
    raise AssertionError("the last question has been tried")
