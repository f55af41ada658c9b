"""What other data sets call the columns that a language model learns from."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_QUESTIONS = ("prompt", "instruction", "question", "query", "input", "source", "problem", "request", "user", "human")
_ANSWERS = ("completion", "output", "answer", "response", "target", "solution", "reply", "assistant", "gpt", "bot")
_CHATS = ("conversation", "dialog", "dialogue", "chat")
_CONTEXTS = ("context",)


def suggest_renaming(columns: Collection[str]) -> str | None:
    """Returns which columns to rename so that a language model can learn from them, in the imperative.

    Args:
        columns: names that are not all among those that are read.

    Returns:
        None: none looks like a chat, and none like a question beside an answer.
    """
    if (chat := _first_of(_CHATS, columns)) is not None:
        return f"rename {chat} to messages"
    question, answer, context = (_first_of(names, columns) for names in (_QUESTIONS, _ANSWERS, _CONTEXTS))
    if question is None or answer is None:
        return None
    chat = _renames({question: "instruction", answer: "output"} | ({context: "input"} if context else {}))
    text = _renames({question: "prompt", answer: "completion"})
    # One name that is right already says which form is meant.
    if question == "prompt" or answer == "completion":
        return f"rename {text}"
    if question == "instruction" or answer == "output":
        return f"rename {chat}"
    return f"rename {chat} (a chat, if the model has a template), or {text} (plain text)"


def _first_of(names: Iterable[str], columns: Collection[str]) -> str | None:
    """Returns the column with the first of the names, in any case, singular or plural."""
    normalized = {column.strip().lower().removesuffix("s"): column for column in columns}
    return next((normalized[name] for name in names if name in normalized), None)


def _renames(names: dict[str, str]) -> str:
    return " and ".join(f"{old} to {new}" for old, new in names.items() if old != new)
