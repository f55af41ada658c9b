"""Tokens of conversations, which of them are learnt, and batches in which a common beginning stands once."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from src.cli.errors import RequestError
from src.training.data.batches import TEXTS_AT_ONCE, Batch, EncodedExamples
from src.training.data.chat_template import DATE, ChatTemplate, TemplateRefusalError, chat_template
from src.training.data.conversations import Conversation, Conversations, Form, Turn
from src.training.data.prompt_form import Begin, PromptForm, plain_prompt
from src.training.data.row_faults import refuse_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TokenRows(EncodedExamples):
    """Rows for a language model.

    Attributes:
        labels: int64 [rows], how many tokens of each row are learnt.
        learnt: bool [tokens], whether the loss counts a token; never a row's first, which nothing precedes.
    """

    learnt: np.ndarray

    @cached_property
    def first_learnt(self) -> np.ndarray:
        """Place of each row's first learnt token in the row, int64 [rows]."""
        places = np.flatnonzero(self.learnt)
        return places[np.searchsorted(places, self.starts[:-1])] - self.starts[:-1]

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """Pads rows on the right to the longest of them, without their common beginning.

        Returns:
            prefix: int64 [1, P], what all of these rows begin with, as far as nothing is predicted from it; P may be 0.
            input_ids: int64 [rows, tokens], the rest of each row.
            attention_mask: int64 [rows, P + tokens]; only where something is padded.
            targets: int64 [n, 2], row and column in input_ids of what predicts a learnt token: of the one before it.
            labels: int64 [n], the tokens to predict there.
        """
        rows = np.asarray(rows)
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        taken = np.arange(longest) < lengths[:, None]
        ids = self._padded(self.ids, rows, taken=taken, fill=self.pad_id)
        learnt = self._padded(self.learnt, rows, taken=taken, fill=0).astype(bool)
        shared = int(self.first_learnt[rows].min()) - 1
        unlike = (ids[:, :shared] != ids[0, :shared]).any(axis=0)
        shared = int(unlike.argmax()) if unlike.any() else shared
        row, column = learnt.nonzero()
        batch = {
            "prefix": torch.from_numpy(ids[:1, :shared].copy()),
            "input_ids": torch.from_numpy(ids[:, shared:].copy()),
            "targets": torch.from_numpy(np.stack([row, column - 1 - shared], axis=1)),
            "labels": torch.from_numpy(ids[row, column]),
        }
        if int(lengths.min()) < longest:
            batch["attention_mask"] = torch.from_numpy(taken.astype(np.int64))
        return batch


@dataclass(frozen=True, kw_only=True)
class EncodedConversations:
    """Rows as tokens, and what is worth a word about them.

    Attributes:
        cut: rows that were longer than the maximum.
        split_boundaries: rows in which the end of the prompt and the beginning of the answer would be one token.
        control_tokens: rows whose texts hold a control token, such as the one that ends a turn.
        date_fixed: whether the chat template would have written today's date.
    """

    rows: TokenRows
    cut: int
    split_boundaries: int
    control_tokens: int
    date_fixed: bool

    def remarks(self) -> list[str]:
        """Returns what a user should know, a sentence each."""
        found = [
            (self.cut, "are longer than --max_length and were cut"),
            (
                self.split_boundaries,
                "have a prompt whose end and answer would be one token, such as a space before a word: they are kept "
                "apart, as they are when the model is asked",
            ),
            (self.control_tokens, "hold a control token in their own text, which the model reads as one"),
        ]
        sentences = [f"{count:,} of {len(self.rows):,} rows {what}" for count, what in found if count]
        if self.date_fixed:
            sentences.append(f"The chat template writes today's date: it is fixed to {DATE.isoformat()}")
        return sentences


def encode_conversations(
    rows: Conversations,
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: PromptForm,
    max_length: int,
    completion_only_loss: bool = True,
    assistant_only_loss: bool = True,
) -> EncodedConversations:
    """Tokenizes every row once. What comes before the last answer has the tokens that PromptForm.prompt_ids returns.

    Args:
        rows: of one form.
        tokenizer: of the model.
        form: of the rows.
        max_length: tokens at most; longer rows lose their ends.
        completion_only_loss: whether prompts are not learnt, those of messages neither.
        assistant_only_loss: whether turns of system and user are not learnt.

    Raises:
        RequestError: a row has nothing to learn within max_length, the chat template refuses it, or there is none.
    """
    if not tokenizer.is_fast:
        raise RequestError("the model's tokenizer has no tokenizer.json, which text generation needs: convert it")
    if tokenizer.eos_token_id is None:
        raise RequestError("the model's tokenizer names no end token (eos_token): without one no answer would end")
    template = chat_template(tokenizer) if form.form == "chat" else None
    texts, faults = [], {}
    for number, row in zip(rows.numbers, rows.rows, strict=True):
        try:
            texts.append(
                _plain_text(row) if template is None else _chat_text(row, template, skip_context=completion_only_loss)
            )
        except TemplateRefusalError as refusal:
            faults[number] = f"the model's chat template refuses it: {refusal}"
    refuse_rows(rows.origin, faults, then="correct or remove {rows}", unit=rows.unit)
    only_answers = assistant_only_loss if form.form == "chat" else completion_only_loss and form.form != "text"
    tokens = _Encoder(tokenizer=tokenizer, form=form.form, only_answers=only_answers).encode(texts)
    for number, (_, learnt) in zip(rows.numbers, tokens.rows, strict=True):
        if not learnt[:max_length].any():
            faults[number] = f"--max_length {max_length} cuts off all that is to be learnt"
    refuse_rows(rows.origin, faults, then="raise it, or shorten or remove {rows}", unit=rows.unit)
    ends = [min(len(ids), max_length) for ids, _ in tokens.rows]
    kept = [(ids[:end], learnt[:end]) for (ids, learnt), end in zip(tokens.rows, ends, strict=True)]
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return EncodedConversations(
        rows=TokenRows(
            ids=np.concatenate([ids for ids, _ in kept]),
            starts=np.cumsum([0, *ends], dtype=np.int64),
            learnt=np.concatenate([learnt for _, learnt in kept]),
            labels=np.array([learnt.sum() for _, learnt in kept], np.int64),
            pad_id=int(pad),
        ),
        cut=sum(len(ids) > max_length for ids, _ in tokens.rows),
        split_boundaries=tokens.split_boundaries,
        control_tokens=_count_control_tokens(rows.rows, tokenizer),
        date_fixed=template is not None and template.date_fixed,
    )


def _count_control_tokens(rows: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase) -> int:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    control = re.compile("|".join(map(re.escape, {*added, *tokenizer.all_special_tokens})))
    # Who ends a completion with the end token means it.
    end = str(tokenizer.eos_token)
    return sum(any(control.search(turn.content.removesuffix(end)) for turn in row.turns) for row in rows)


@dataclass(frozen=True, kw_only=True)
class _Text:
    """A row as text.

    Attributes:
        text: all of it.
        spans: beginning and end of each answer, in characters.
        start: of what is learnt if more than the answers is.
        ends: whether the end token stands at the end already.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    ends: bool
    start: int = 0


def _plain_text(row: Conversation) -> _Text:
    prompt, answer = plain_prompt(row.turns[:-1]), row.turns[-1].content
    return _Text(text=prompt + answer, spans=((len(prompt), len(prompt) + len(answer)),), ends=False)


def _chat_text(row: Conversation, template: ChatTemplate, *, skip_context: bool) -> _Text:
    """Finds the answers in what the template writes.

    An answer begins where the template would ask for it, whatever it writes there, and ends with the token that ends
    turns. Marks for it ({% generation %}) are in few templates.
    """
    text = template.render(row.turns, ask=False)
    spans = []
    for at in row.answers:
        asked = template.render(row.turns[:at], ask=True)
        start = len(asked) if text.startswith(asked) else _diverging(text, asked, row.turns[:at], template)
        if at == row.answers[-1]:
            # Where the template asks in other words than it writes, such as with the beginning of a thought: as asked.
            text, start = asked + text[start:], len(asked)
        spans.append((start, _end_of_answer(text, row.turns[at].content.strip(), start=start, end=template.end)))
    ends = template.end is not None and text.endswith(template.end, 0, spans[-1][1])
    begun = len(template.render(row.turns[: row.context], ask=False)) if skip_context and row.context else 0
    return _Text(text=text, spans=tuple(spans), ends=ends, start=begun)


def _diverging(text: str, asked: str, turns: Sequence[Turn], template: ChatTemplate) -> int:
    """Returns where a text and what asks for its answer differ: behind the turns before it, or it is refused."""
    before = template.render(turns, ask=False)
    if not (text.startswith(before) and asked.startswith(before)):
        raise TemplateRefusalError("it does not write the turns before an answer as it writes them with the answer")
    return len(os.path.commonprefix([text, asked]))


def _end_of_answer(text: str, answer: str, *, start: int, end: str | None) -> int:
    # An answer may itself hold the end token. The template may have rewritten it.
    found = text.find(answer, start)
    after = start if found < 0 else found + len(answer)
    stop = -1 if end is None else text.find(end, after)
    return (len(text) if found < 0 else after) if stop < 0 else stop + len(end or "")


Tokens = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _EncodedTexts:
    rows: list[Tokens]
    split_boundaries: int


@dataclass(frozen=True, kw_only=True)
class _Encoder:
    """Makes tokens of texts.

    Attributes:
        only_answers: whether only the spans are learnt.
    """

    tokenizer: Any
    form: Form
    only_answers: bool

    @cached_property
    def _begin(self) -> Begin:
        return Begin.of(self.tokenizer)

    def encode(self, texts: Sequence[_Text]) -> _EncodedTexts:
        """Returns the ids, int32, and what is learnt, bool, of each text.

        The prompt has the tokens that it has alone, since the model is asked with it alone. In the text they are the
        same but where a token would reach over its end; then the rest is tokenized on its own.
        """
        # Sets the backend's truncation and padding.
        self.tokenizer("", truncation=False, padding=False)
        parts = [self._encode(texts[at : at + TEXTS_AT_ONCE]) for at in range(0, len(texts), TEXTS_AT_ONCE)]
        return _EncodedTexts(
            rows=[row for part in parts for row in part.rows],
            split_boundaries=sum(part.split_boundaries for part in parts),
        )

    def _encode(self, texts: Sequence[_Text]) -> _EncodedTexts:
        prompts = self._encodings([text.text[: text.spans[-1][0]] for text in texts])
        wholes = self._encodings([self._whole(text) for text in texts])
        rows, split_boundaries = [], 0
        for text, prompt, whole in zip(texts, prompts, wholes, strict=True):
            start = text.spans[-1][0]
            ids, places = whole.ids, np.array(whole.offsets, np.int64).reshape(-1, 2)
            if ids[: len(prompt.ids)] != prompt.ids:
                (rest,) = self._encodings([self._whole(text)[start:]])
                ids = prompt.ids + rest.ids
                places = np.array([*prompt.offsets, *((a + start, b + start) for a, b in rest.offsets)], np.int64)
                split_boundaries += 1
            rows.append(self._row(text, ids, places, prompt=len(prompt.ids)))
        return _EncodedTexts(rows=rows, split_boundaries=split_boundaries)

    def _whole(self, text: _Text) -> str:
        # What follows the last answer would be computed and teach nothing.
        return text.text[: text.spans[-1][1]] if self.only_answers else text.text

    def _encodings(self, texts: list[str]) -> list[Any]:
        encoded: list[Any] = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return encoded

    def _row(self, text: _Text, ids: list[int], places: np.ndarray, *, prompt: int) -> Tokens:
        """Returns one row; places: int64 [tokens, 2], each token's characters; prompt: tokens before the last span."""
        learnt = np.zeros(len(ids), bool) if self.only_answers else places[:, 0] >= text.start
        if self.only_answers:
            for start, stop in text.spans[:-1]:
                learnt |= (places[:, 0] >= start) & (places[:, 1] > start) & (places[:, 0] < stop)
            learnt[prompt:] = True
        begun = self._begun(ids, prompt=prompt)
        added = len(begun) - len(ids)
        eos = self.tokenizer.eos_token_id
        end = [] if text.ends or begun[-1] == eos else [eos]
        learnt = np.concatenate([np.zeros(added, bool), learnt, np.ones(len(end), bool)])
        learnt[0] = False
        return np.array(begun + end, np.int32), learnt

    def _begun(self, ids: list[int], *, prompt: int) -> list[int]:
        """Puts the begin token first, which a template has written already."""
        if self.form == "chat":
            return ids
        return self._begin.put(ids) if self.form == "text" else self._begin.put(ids[:prompt]) + ids[prompt:]
