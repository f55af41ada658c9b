"""Answers prompts with a trained language model: bazel run //src/training:generate -- --help"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from src.cli.errors import EXIT_DONE, RequestError, exit_code_of
from src.cli.working_folder import working_folder
from src.training.environment.cores import available_cores
from src.training.environment.determinism import prepare_environment
from src.training.inference.arguments import Parser, fraction, non_negative, positive_integer, truth, whole_number

if TYPE_CHECKING:
    from src.training.inference.generator import Answer
    from src.training.inference.language_folder import LanguageModelFolder
    from src.training.inference.prompts import Prompt
    from src.training.inference.text_generator import TextGenerator

_PROGRAM = "generate"
_MAX_NEW_TOKENS = 256
_BATCH_SIZE = 16
# Prompts sorted by length together: enough for little padding, few enough to answer soon.
_BATCHES_A_WINDOW = 4
_DESCRIPTION = """\
Answers prompts with a trained language model:

  --model finetuned/embedded_llm-1a2b3c4d "a fine film"      on a terminal, the answer as it comes
  --model finetuned/embedded_llm-1a2b3c4d --chat             a conversation
  --model finetuned/embedded_llm-1a2b3c4d < prompts.txt      one prompt a line, JSON lines out

DIR is the folder of a trained model, any other folder with a language model of transformers, a .gguf file of a Llama,
or embedded:smollm2-135m-instruct. A prompt is put to the model as it was in the training: with its chat template and
its system prompt, or without. Lines may be rows as well: {"prompt": ...} or {"messages": [...]}.

{"prompt": ..., "completion": the answer, "finish_reason": "stop", or "length" for one that was cut}

A prompt's answer is the same alone and among others. Without sampling it is the likeliest token each time.

Exit codes: 0 done; 2 invalid request; 1 any other error."""


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of(_PROGRAM, lambda: _generate(arguments), debug="--debug" in arguments, answers=True)


def argument_parser() -> Parser:
    """Returns the parser behind --help."""
    parser = Parser(
        _PROGRAM,
        usage='--model DIR ["prompt" ...]',
        description=_DESCRIPTION,
        groups=["prompts", "answers"],
        truncates=False,
    )
    prompts, answers, run = parser.groups["prompts"], parser.groups["answers"], parser.groups["run"]
    prompts.add_argument("--chat", action="store_true", help="a conversation: each line is answered with all before it")
    prompts.add_argument(
        *("--system_prompt", "--system"),
        metavar="TEXT",
        help='in place of that of the training; "" for none',
    )
    answers.add_argument(
        "--max_new_tokens",
        metavar="N",
        type=positive_integer,
        default=_MAX_NEW_TOKENS,
        help=f"tokens of an answer at most (default: {_MAX_NEW_TOKENS})",
    )
    answers.add_argument(
        "--temperature",
        metavar="T",
        type=non_negative,
        help="of the sampling; 0: none, the likeliest token each time (default: 0; with another flag to sample, 1)",
    )
    answers.add_argument("--do_sample", metavar="BOOL", type=truth, help="true: sample; false: as --temperature 0")
    answers.add_argument(
        "--top_p", metavar="P", type=fraction, help="sample of the likeliest tokens that together have this probability"
    )
    answers.add_argument(
        "--top_k", metavar="N", type=whole_number, help="sample of so many of the likeliest tokens; 0: of all"
    )
    answers.add_argument(
        "--seed", metavar="N", type=whole_number, default=0, help="of the sampling: the same answers again (default: 0)"
    )
    run.add_argument(
        "--batch_size",
        metavar="N",
        type=positive_integer,
        default=_BATCH_SIZE,
        help=f"prompts per batch (default: {_BATCH_SIZE})",
    )
    run.add_argument("--threads", metavar="N", type=positive_integer, help="CPU threads (default: every core)")
    return parser


def _temperature(given: argparse.Namespace) -> float:
    if given.do_sample is False and given.temperature:
        raise RequestError(f"--do_sample false and --temperature {given.temperature} contradict: leave one of them out")
    if given.temperature is not None:
        return float(given.temperature)
    samples = given.top_p is not None or given.top_k is not None
    return 1.0 if given.do_sample or (samples and given.do_sample is None) else 0.0


def _generate(arguments: list[str]) -> int:
    given, words = argument_parser().parse(arguments, takes_texts=True)
    temperature = _temperature(given)
    if given.chat and words:
        raise RequestError("--chat reads what is asked from standard input: leave out the prompts, or --chat")
    for at, text in enumerate(words, 1):
        if not text.strip():
            raise RequestError(f"prompt {at} is empty: leave it out")
    # numpy reads it once, when it is loaded.
    prepare_environment("off")
    from src.training.inference.language_folder import find_language_model

    source = _with_system(find_language_model(given.model, user_folder=working_folder()), given)

    def load() -> TextGenerator:
        import torch

        from src.training.inference.generator import Decoding
        from src.training.inference.text_generator import load_text_generator

        torch.set_num_threads(given.threads or available_cores())
        decoding = Decoding(
            max_new_tokens=given.max_new_tokens,
            stop_ids=frozenset(),
            temperature=temperature,
            top_k=given.top_k or 0,
            top_p=1.0 if given.top_p is None else given.top_p,
            seed=given.seed,
        )
        return load_text_generator(source, decoding)

    if given.chat:
        _chat(source, load)
    elif words and sys.stdout.isatty():
        _show_answers(words, load())
    else:
        _print_rows(_windows(words, size=given.batch_size * _BATCHES_A_WINDOW), load, batch_size=given.batch_size)
    return EXIT_DONE


def _with_system(source: LanguageModelFolder, given: argparse.Namespace) -> LanguageModelFolder:
    """Puts --system_prompt in place of the model's own."""
    form = source.prompt_form
    for flag, is_given in (("--system_prompt", given.system_prompt is not None), ("--chat", given.chat)):
        if is_given and form.form != "chat":
            raise RequestError(f"{flag} is for models that know turns, and {source.name} continues texts: leave it out")
    if given.system_prompt is None:
        return source
    return dataclasses.replace(source, prompt_form=dataclasses.replace(form, system=given.system_prompt or None))


def _windows(words: list[str], *, size: int) -> Iterator[list[Prompt]]:
    from src.training.inference.lines import text_windows
    from src.training.inference.prompts import parse_prompt, text_prompt

    if words:
        prompts = [text_prompt(text, place=f"prompt {at}") for at, text in enumerate(words, 1)]
        return (prompts[start : start + size] for start in range(0, len(prompts), size))
    if sys.stdin.isatty():
        sys.stderr.write(f"{_PROGRAM}: reading prompts, one per line; Ctrl-D ends the input (--chat: a conversation)\n")
    return text_windows(sys.stdin.buffer, size=size, parse=parse_prompt)


def _print_rows(windows: Iterator[list[Prompt]], load: Callable[[], TextGenerator], *, batch_size: int) -> None:
    # Before the model is loaded: mistakes in the first lines are reported at once.
    first = next(windows, None)
    if first is None:
        return
    generator = load()
    _print_window(first, generator, batch_size=batch_size)
    for window in windows:
        _print_window(window, generator, batch_size=batch_size)


def _print_window(prompts: list[Prompt], generator: TextGenerator, *, batch_size: int) -> None:
    ids = [generator.prompt_ids(prompt) for prompt in prompts]
    for number, answer in generator.answers(ids, batch_size=batch_size):
        row = prompts[number].answered(generator.text(answer), is_cut=answer.is_cut)
        sys.stdout.buffer.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.buffer.flush()


def _show_answers(words: list[str], generator: TextGenerator) -> None:
    from src.training.inference.prompts import text_prompt
    from src.training.inference.text_stream import for_terminal

    for at, text in enumerate(words, 1):
        if len(words) > 1:
            _write(f"> {for_terminal(text)}\n")
        _show_answer(generator, generator.prompt_ids(text_prompt(text, place=f"prompt {at}")))


def _chat(source: LanguageModelFolder, load: Callable[[], TextGenerator]) -> None:
    if sys.stdin.isatty():
        sys.stderr.write(f"{_PROGRAM}: a conversation with {source.name}; Ctrl-D ends it, Ctrl-C an answer\n")
    generator = load()
    from src.training.inference.chat import chat

    if sys.stdin.isatty():
        # To be killed while a line is edited would leave the terminal without its echo.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    chat(generator, lambda ids: _show_answer(generator, ids), program=_PROGRAM)


def _show_answer(generator: TextGenerator, ids: list[int]) -> Answer:
    """Writes an answer as it comes."""
    from src.training.inference.text_stream import TextStream, for_terminal

    shown = for_terminal if sys.stdout.isatty() else str
    stream = TextStream(generator.decode, lambda piece: _write(shown(piece)))
    answer = generator.answer(ids, stream.take)
    if not answer.is_cut:
        stream.end()
    _write("\n")
    if answer.is_cut:
        is_full = len(answer.ids) < generator.decoding.max_new_tokens
        why = "the model reads no more" if is_full else "raise --max_new_tokens"
        sys.stderr.write(f"{_PROGRAM}: the answer was cut after {len(answer.ids)} tokens: {why}\n")
    return answer


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    # Ctrl-C loses nothing: end silently, as other filters do.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
