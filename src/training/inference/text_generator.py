"""A trained language model in memory: prompts in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from src.cli.errors import RequestError
from src.training.data.chat_template import TemplateRefusalError, chat_template
from src.training.data.conversations import Turn
from src.training.data.prompt_form import PromptForm
from src.training.fused.causal import CausalForward
from src.training.inference.generator import Answer, Decoding, generate
from src.training.inference.language_folder import LanguageModelFolder
from src.training.inference.prompts import Prompt
from src.training.inference.text_stream import whole_characters
from src.training.model.base_model import BaseModel
from src.training.model.language_model import load_language_model, load_language_tokenizer, load_with_adapter
from src.training.model.pretrained import check_token_ids, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TextGenerator:
    """A model in memory, in evaluation mode, on the CPU.

    Attributes:
        form: how it is asked.
        decoding: how it answers.
    """

    tokenizer: PreTrainedTokenizerBase
    forward: CausalForward
    form: PromptForm
    decoding: Decoding

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Returns the tokens that the model is asked with.

        Raises:
            RequestError: it is not asked in this way, or with so many tokens.
        """
        try:
            ids = self.form.prompt_ids(self.tokenizer, self._turns(prompt))
        except TemplateRefusalError as refusal:
            raise RequestError(f"{prompt.place}: the model's chat template refuses it: {refusal}") from refusal
        limit = self.decoding.max_tokens
        if limit is not None and len(ids) >= limit:
            raise RequestError(
                f"{prompt.place} has {len(ids):,} tokens, and the model reads {limit:,} with the answer: shorten it"
            )
        return ids

    def _turns(self, prompt: Prompt) -> str | tuple[Turn, ...]:
        if isinstance(prompt.asked, str):
            return prompt.asked
        if self.form.form != "chat":
            raise RequestError(
                f"{prompt.place} has messages, and the model was trained on texts without turns: give prompts"
            )
        has_system = prompt.asked[0].role == "system" or self.form.system is None
        return prompt.asked if has_system else (Turn(role="system", content=str(self.form.system)), *prompt.asked)

    def answers(self, prompts: Sequence[Sequence[int]], *, batch_size: int) -> Iterator[tuple[int, Answer]]:
        """Answers prompts in batches of like length. Each answer is the same as that of the prompt alone.

        Args:
            prompts: tokens of each.
            batch_size: prompts per batch.

        Yields:
            Number of a prompt and its answer, in the order of the prompts, as soon as those before it are answered.
        """
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        found: dict[int, Answer] = {}
        following = 0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            found |= zip(rows, generate(self.forward, [prompts[row] for row in rows], self.decoding), strict=True)
            while following in found:
                yield following, found.pop(following)
                following += 1

    def answer(self, prompt: Sequence[int], on_token: Callable[[int], None]) -> Answer:
        """Answers one prompt; `on_token` is called with each token of the answer as it comes."""
        (answer,) = generate(self.forward, [prompt], self.decoding, on_token=lambda _, token: on_token(token))
        return answer

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of an answer's tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def text(self, answer: Answer) -> str:
        """Returns an answer as text; one that was cut within a character ends before it."""
        return whole_characters(self.decode(answer.ids), is_cut=answer.is_cut)


def load_text_generator(source: LanguageModelFolder, decoding: Decoding) -> TextGenerator:
    """Loads a language model. Only safetensors are read: nothing in the folder is run.

    Args:
        source: what `find_language_model` found.
        decoding: but for the tokens that end an answer and the model's limit.

    Raises:
        RequestError: the files are not such a model, or lack some of its weights.
    """
    if source.base is None:
        here = BaseModel(folder=source.folder, content={"source": source.name})
        model, tokenizer = load_language_model(here), load_language_tokenizer(here)
    else:
        model = load_with_adapter(source.base, source.folder).merge_and_unload()
        tokenizer = load_tokenizer(source.folder)
        check_token_ids(model, tokenizer, name=source.name)
    stop_ids = set(source.stop_ids)
    if tokenizer.eos_token_id is not None:
        stop_ids.add(tokenizer.eos_token_id)
    if source.prompt_form.form == "chat" and (end := chat_template(tokenizer).end) is not None:
        # Published models end turns with tokens that their own files do not always name.
        stop_ids.add(tokenizer.convert_tokens_to_ids(end))
    return TextGenerator(
        tokenizer=tokenizer,
        forward=CausalForward(model.eval()),
        form=source.prompt_form,
        decoding=replace(decoding, stop_ids=frozenset(stop_ids), max_tokens=source.max_tokens),
    )
