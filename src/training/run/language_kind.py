"""The run of a language model; see kinds.Kind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.cli.errors import RequestError
from src.training.data.conversations import Conversations
from src.training.data.token_rows import TokenRows, encode_conversations
from src.training.engine.data_parallel import TEST, TRAIN, VALIDATION, DataParallel
from src.training.engine.language_pass import LanguagePass
from src.training.engine.memory_check import check_language_model_fits
from src.training.environment.bfloat16 import bfloat16_instructions
from src.training.evaluation.comparison import Comparison
from src.training.evaluation.problem import Answer, Scored
from src.training.fused.causal import CausalForward
from src.training.fused.linear import free_bfloat16_weights, frozen_layers, fuse_linear_layers
from src.training.inference.generator import Answer as Generated
from src.training.inference.generator import Decoding, generate
from src.training.inference.text_stream import whole_characters
from src.training.model.language_model import (
    check_targets_of,
    load_language_model,
    load_language_tokenizer,
    load_merged,
    load_with_adapter,
    save_language_model,
)
from src.training.model.lora import ADAPTER, CAUSAL_LM, Lora, add_lora, check_moved
from src.training.problems.generation.problem import GenerationProblem
from src.training.run.resolved_run import ResolvedRun

# Answers that a process generates together, at most. A token costs 8 ms in a batch of 15 and 3.6 in one of 60: each
# reads all weights once.
_MAX_PROMPTS_PER_BATCH = 64
# Keys and values of a token take 46 kB in a model of 135 M weights.
_MAX_PROMPT_TOKENS_PER_BATCH = 16_384
_MAX_ANSWER_TOKENS = 256
# Two ways to the same logits differ by about a hundredth of it.
_TOLERANCE = 1e-3

log = logging.getLogger("finetune")


class LanguageKind:
    """A model that continues text."""

    def __init__(self, resolved: ResolvedRun) -> None:
        assert resolved.prompt_form is not None
        assert isinstance(resolved.problem, GenerationProblem)
        self._problem = resolved.problem
        self._resolved, self._recipe = resolved, resolved.recipe
        self._task, self._form = resolved.task, resolved.prompt_form
        self._asked = _answered_rows(self._task.test, self._recipe.max_generate_samples, seed=self._recipe.seed)

    def build(self) -> tuple[Any, Any]:
        """See Kind.build."""
        return self._build(base_name=self._resolved.base.loadable_name)

    def _build(self, *, base_name: str) -> tuple[Any, Any]:
        # What can be refused is refused before the weights are read.
        lora = Lora.of(self._recipe)
        if lora is not None:
            check_targets_of(self._resolved.base, lora)
        tokenizer = load_language_tokenizer(self._resolved.base)
        self._splits = {
            TRAIN: self._encode(self._task.train, tokenizer),
            VALIDATION: self._encode(self._task.validation, tokenizer),
            TEST: self._encode(self._task.test, tokenizer),
        }
        model = load_language_model(self._resolved.base)
        if lora is not None:
            model = add_lora(model, lora, seed=self._recipe.seed, base_name=base_name, task_type=CAUSAL_LM)
        return model, tokenizer

    def data_parallel(self, model: Any, tokenizer: Any, *, is_stopping: Callable[[], bool]) -> DataParallel:
        """See Kind.data_parallel."""
        check_language_model_fits(
            model,
            rows_per_process=-(-self._recipe.per_device_train_batch_size // self._resolved.threads),
            longest=max(int(rows.lengths.max(initial=0)) for rows in self._splits.values()),
            threads=self._resolved.threads,
            keeps_best=self._resolved.keeps_best,
            bf16=self._recipe.bf16,
        )
        fuse_linear_layers(model, bf16=self._recipe.bf16)
        if self._recipe.bf16:
            count, instructions = len(frozen_layers(model)), bfloat16_instructions()
            log.info("Products with %d frozen weights while training: bfloat16, by %s", count, instructions)
        self._forward = CausalForward(model)
        self._stop_ids = self._form.end_ids(tokenizer)
        self._plan_answers(tokenizer)
        return DataParallel(
            model,
            self._resolved.training_settings,
            splits=self._splits,
            problem=self._problem,
            threads=self._resolved.threads,
            forward_pass=LanguagePass(self._forward, self._problem),
            answer=self._answer,
            min_rows_per_process=1,
            is_stopping=is_stopping,
        )

    def _encode(self, rows: Conversations, tokenizer: Any) -> TokenRows:
        def default(given: bool | None) -> bool:
            return True if given is None else given

        encoded = encode_conversations(
            rows,
            tokenizer=tokenizer,
            form=self._form,
            # Filled in with the base.
            max_length=self._recipe.max_length or 0,
            completion_only_loss=default(self._recipe.completion_only_loss),
            assistant_only_loss=default(self._recipe.assistant_only_loss),
        )
        for remark in encoded.remarks():
            log.info("%s: %s", rows.split, remark)
        return encoded.rows

    def _plan_answers(self, tokenizer: Any) -> None:
        """Finds the prompts and answers of the test rows. A row cut before its last answer is not asked for it."""
        max_length = self._recipe.max_length or 0
        rows = [self._task.test.rows[row] for row in self._asked]
        prompts = [self._form.prompt_ids(tokenizer, row.asked) for row in rows]
        fitting = [at for at, prompt in enumerate(prompts) if len(prompt) < max_length]
        if len(fitting) < len(rows):
            left_out = f"{len(rows) - len(fitting):,} of {len(rows):,} prompts are longer than --max_length"
            log.info("%s: %s and are not answered", self._task.test.split, left_out)
        self._asked = [self._asked[at] for at in fitting]
        self._prompts = [prompts[at] for at in fitting]
        rows = [rows[at] for at in fitting]
        references = tokenizer([row.reference for row in rows], add_special_tokens=False).input_ids if rows else []
        longest = max(map(len, references), default=0)
        self._decoding = Decoding(
            # And the end; a little more tells an answer that goes on from one that ends.
            max_new_tokens=self._recipe.max_new_tokens or min(longest + 4, _MAX_ANSWER_TOKENS),
            stop_ids=frozenset(self._stop_ids),
            max_tokens=self._resolved.base.max_tokens,
        )
        self._encoded_answers = [*map(self._encoded_answer, self._asked, self._prompts)]
        self._tokenizer = tokenizer

    def _encoded_answer(self, row: int, prompt: list[int]) -> Generated | None:
        """Returns the answer that a test row holds after its prompt; None: not all of it is learnt, or it is long."""
        test = self._splits[TEST]
        inside = slice(test.starts[row], test.starts[row + 1])
        ids, learnt = test.ids[inside].tolist(), test.learnt[inside]
        ends = (place for place in range(len(prompt), len(ids)) if ids[place] in self._decoding.stop_ids)
        end = next(ends, None)
        if end is None or ids[: len(prompt)] != prompt or not learnt[len(prompt) : end + 1].all():
            return None
        answer = ids[len(prompt) : end]
        return Generated(ids=tuple(answer), is_cut=False) if len(answer) <= self._decoding.max_new_tokens else None

    def _batches(self, asked: Sequence[int]) -> list[np.ndarray]:
        """Deals prompts to batches of like length, as many as the processes can share evenly."""
        order = np.array(sorted(asked, key=lambda at: len(self._prompts[at])), np.int64)
        longest_prompt = max((len(self._prompts[at]) for at in asked), default=1)
        size = max(1, min(_MAX_PROMPTS_PER_BATCH, _MAX_PROMPT_TOKENS_PER_BATCH // longest_prompt))
        shares = self._resolved.threads * -(-len(order) // (size * self._resolved.threads))
        return [part for part in np.array_split(order, max(shares, 1)) if len(part)]

    def _answer(self, asked: np.ndarray) -> list[Generated]:
        return generate(self._forward, [self._prompts[at] for at in asked], self._decoding)

    def measure(self, data_parallel: DataParallel, *, check: Callable[[], None]) -> Scored:
        """See Kind.measure. A row whose tokens are all the likeliest is answered by them: none has to be generated."""
        scored = data_parallel.score(TEST, name=self._task.test.split, check=check)
        if not self._prompts:
            return scored
        _, tokens, _, surely_correct = data_parallel.outputs(TEST)[self._asked].T
        found = {
            at: answer
            for at, answer in enumerate(self._encoded_answers)
            if answer is not None and tokens[at] == surely_correct[at]
        }
        batches = self._batches([at for at in range(len(self._prompts)) if at not in found])
        generated = data_parallel.answers(batches, check=check)
        found |= zip(chain(*batches), generated, strict=True)
        ordered = [found[at] for at in range(len(self._asked))]
        texts = self._tokenizer.batch_decode([answer.ids for answer in ordered], skip_special_tokens=True)
        answers = [
            Answer(row=row, text=whole_characters(text, is_cut=answer.is_cut), cut=answer.is_cut)
            for row, text, answer in zip(self._asked, texts, ordered, strict=True)
        ]
        return self._problem.with_answers(scored, answers, rows=self._task.test)

    def compare(self, *, before: Scored, after: Scored) -> Comparison:
        """See Kind.compare."""
        return self._problem.compare_scored(before=before, after=after, rows=self._task.test)

    def sample(self, model: Any, tokenizer: Any) -> torch.Tensor:
        """See Kind.sample. The numbers are the logits after the prompt, float32 [vocabulary]."""
        model.eval()
        if self._prompts:
            row, prompt = self._task.test.rows[self._asked[0]], self._prompts[0]
            (answer,) = generate(self._forward, [prompt], self._decoding)
            log.info("Test prompt: %r", row.asked[-1].content)
            log.info("Answer: %r", tokenizer.decode(answer.ids, skip_special_tokens=True))
        return self._sample_logits(model)

    def _sample_logits(self, model: Any) -> torch.Tensor:
        prompt = self._prompts[0] if self._prompts else [self._stop_ids[0]]
        with torch.inference_mode():
            logits: torch.Tensor = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
        return logits

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """See Kind.save."""
        check_moved(model)
        free_bfloat16_weights(model)
        self._save(model, tokenizer, folder)

    def _save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        stop_ids = self._form.end_ids(tokenizer)
        save_language_model(model, tokenizer, folder, stop_ids=stop_ids, merged=self._recipe.save_merged)

    def write_untrained(self, folder: Path) -> None:
        """See Kind.write_untrained."""
        model, tokenizer = self._build(base_name=self._resolved.base.content["source"])
        self._save(model, tokenizer, folder)

    def verify(self, folder: Path, sample: torch.Tensor) -> None:
        """See Kind.verify: merged weights, and base and adapter, each against the model in memory."""
        loaders: dict[str, Callable[[], Any]] = {}
        if self._recipe.save_merged or not self._recipe.use_peft:
            loaders["the saved model"] = lambda: load_merged(folder)
        if (folder / ADAPTER).is_dir():
            loaders["the saved adapter on its base"] = lambda: load_with_adapter(self._resolved.base, folder)
        for what, load in loaders.items():
            try:
                model = load().eval()
            except RequestError as error:
                # Nobody asked for anything wrong.
                raise RuntimeError(f"{error}: nothing was kept") from error
            difference = float((self._sample_logits(model) - sample).abs().max())
            if not difference <= _TOLERANCE * max(1.0, float(sample.abs().max())):
                raise RuntimeError(f"{what} does not answer as the trained one did: nothing was kept")
            log.info("Loaded %s: it answers as before (logits differ by %.1g at most)", what, difference)
            del model


def _answered_rows(test: Conversations, count: int, *, seed: int) -> list[int]:
    """Returns the numbers of the test rows that are answered: of those that hold a reference, so many by chance."""
    rows = [number for number, row in enumerate(test.rows) if row.reference is not None]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [rows[at] for at in np.sort(chosen)]
