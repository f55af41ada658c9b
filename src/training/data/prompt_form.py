"""What a model is asked with: the same tokens in training and afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from src.training.data.chat_template import chat_template
from src.training.data.conversations import Conversations, Form, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# R. Taori et al., Stanford Alpaca, 2023: PROMPT_DICT of train.py.
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)


@dataclass(frozen=True, kw_only=True)
class PromptForm:
    """How a prompt is written.

    Attributes:
        form: of the rows that the model was trained on.
        system: the one system prompt that all of them share; None: there is none, or there are several.
    """

    form: Form
    system: str | None = None

    @classmethod
    def of(cls, rows: Conversations, form: Form) -> Self:
        """Returns the form in which a model that learns these rows is to be asked."""
        systems = {row.turns[0].content if row.turns[0].role == "system" else None for row in rows.rows}
        return cls(form=form, system=systems.pop() if len(systems) == 1 else None)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Returns what `as_json` was of."""
        return cls(form=fields["form"], system=fields["system"])

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as recipe.json holds them."""
        return asdict(self)

    def turns(self, prompt: str) -> tuple[Turn, ...]:
        """Returns what comes before the answer to a prompt, with the system prompt that the model has learnt."""
        if self.form == "chat":
            system = () if self.system is None else (Turn(role="system", content=self.system),)
            return (*system, Turn(role="user", content=prompt))
        return (Turn(role="instruction" if self.form == "alpaca" else "prompt", content=prompt),)

    def text(self, prompt: str) -> str:
        """Returns a prompt as the model reads it, of the forms without a chat template."""
        return plain_prompt(self.turns(prompt))

    def end_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Returns the tokens that end an answer: the one that has been learnt, and the tokenizer's own end token."""
        end = chat_template(tokenizer).end_id(tokenizer) if self.form == "chat" else None
        return list(dict.fromkeys(found for found in (end, tokenizer.eos_token_id) if found is not None))

    def prompt_ids(self, tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Turn]) -> list[int]:
        """Returns the tokens that a model is asked with.

        Args:
            tokenizer: of the model.
            prompt: a text; or turns, as `Conversation.asked` and `turns()` are, which are written as they are.
        """
        turns = self.turns(prompt) if isinstance(prompt, str) else tuple(prompt)
        if self.form == "chat":
            text = chat_template(tokenizer).render(turns, ask=True)
            ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
            return ids
        return Begin.of(tokenizer).put(tokenizer(plain_prompt(turns), add_special_tokens=False).input_ids)


def plain_prompt(turns: Sequence[Turn]) -> str:
    """Writes what comes before a completion, without a template."""
    parts = {turn.role: turn.content for turn in turns}
    if "instruction" in parts:
        worded = _ALPACA_WITH_INPUT if "input" in parts else _ALPACA
        return worded.format(**parts)
    return "".join(turn.content for turn in turns)


@dataclass(frozen=True, kw_only=True)
class Begin:
    """The token that a text begins with.

    Attributes:
        own: of every text, as the tokenizer has it; none of many decoders.
        empty: of a text without tokens, since a model cannot be asked with none.
    """

    own: list[int]
    empty: list[int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Returns the begin token of a tokenizer."""
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        added = tokenizer("").input_ids
        own = [bos] if bos is not None and added[:1] == [bos] else []
        return cls(own=own, empty=own or [eos if bos is None else bos])

    def put(self, ids: list[int]) -> list[int]:
        """Puts it before a text's tokens, unless it is there."""
        first = self.own if ids else self.empty
        return ids if ids[:1] == first else first + ids
