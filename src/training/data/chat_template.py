"""A model's chat template: what it writes, with a fixed date, and where a turn of the assistant ends."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from src.cli.errors import RequestError
from src.training.data.conversations import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What Llama's templates write where they know no date.
DATE = datetime.date(2024, 7, 26)
_TODAY = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_PROBE = "answer"


class TemplateRefusalError(ValueError):
    """The template does not write these turns. The message is its own."""


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A template as the model brings it, but for its date.

    Attributes:
        text: in Jinja. Today's date is replaced by DATE: it would make other rows of the same ones tomorrow.
        date_fixed: whether there was one.
        variables: the special tokens by the names that templates know.
        end: the token that ends a turn of the assistant; None: the template writes none.
    """

    text: str
    date_fixed: bool
    variables: Mapping[str, str]
    end: str | None

    def end_id(self, tokenizer: PreTrainedTokenizerBase) -> int | None:
        """Returns the id of `end`."""
        if self.end is None:
            return None
        found = tokenizer.convert_tokens_to_ids(self.end)
        assert isinstance(found, int)
        return found

    def render(self, turns: Sequence[Turn], *, ask: bool) -> str:
        """Writes turns.

        Args:
            turns: of system, user and assistant.
            ask: whether the beginning of an answer follows.

        Raises:
            TemplateRefusalError: the template does not take them.
        """
        return _render(self.text, turns, ask=ask, variables=self.variables)


def chat_template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    """Returns a model's chat template.

    Raises:
        RequestError: it has none, or one whose date cannot be fixed.
    """
    try:
        given = tokenizer.get_chat_template()
    except ValueError as error:
        raise RequestError(
            "the model has no chat template, which conversations are written with: choose a model that was made for "
            "chat, or give rows with prompt and completion"
        ) from error
    text = with_fixed_date(given)
    if "strftime_now(" in text:
        raise RequestError("the model's chat template writes today's date in a way that cannot be fixed: change it")
    variables = dict(tokenizer.special_tokens_map)
    return ChatTemplate(
        text=text, date_fixed=text != given, variables=variables, end=_end(text, variables, tokenizer=tokenizer)
    )


def with_fixed_date(template: str) -> str:
    """Returns a template that writes DATE where it wrote today's."""
    return _TODAY.sub(lambda call: f'"{DATE.strftime(call[2])}"', template)


def _end(text: str, variables: Mapping[str, str], *, tokenizer: PreTrainedTokenizerBase) -> str | None:
    turns = (Turn(role="user", content="question"), Turn(role="assistant", content=_PROBE))
    try:
        tail = _render(text, turns, ask=False, variables=variables).rpartition(_PROBE)[2]
    except TemplateRefusalError as refusal:
        raise RequestError(f"the model's chat template does not write a question and an answer: {refusal}") from refusal
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    found = [(tail.index(token), -len(token), token) for token in added if token in tail]
    return min(found)[2] if found else None


def _render(text: str, turns: Sequence[Turn], *, ask: bool, variables: Mapping[str, str]) -> str:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    own: dict[str, Any] = {"chat_template": text, "add_generation_prompt": ask, **variables}
    try:
        rendered: Any = render_jinja_template([messages], **own)
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise TemplateRefusalError(" ".join(str(error).split())) from error
    text_of_chat: str = rendered[0][0]
    return text_of_chat
