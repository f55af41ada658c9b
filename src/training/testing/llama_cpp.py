"""llama.cpp itself, to ask what it makes of a GGUF file."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 60


class LlamaCpp:
    """A model that llama.cpp has loaded."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Returns the tokens of a text; `special`: names of special tokens in it, and those put around it, count."""
        body = {"content": text, "add_special": special, "parse_special": special}
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            tokens: list[int] = json.load(answer)["tokens"]
            return tokens

    def greedy(self, prompt: str, *, tokens: int) -> str:
        """Returns the likeliest continuation of a prompt."""
        answer = self._server.handle_completions(
            {"prompt": prompt, "temperature": 0, "n_predict": tokens, "cache_prompt": False}
        )
        return str(answer["choices"][0]["text"])

    def chat(self, question: str, *, tokens: int) -> str:
        """Returns the likeliest answer to a user's turn, by the chat template in the file."""
        answer = self._server.handle_chat_completions(
            {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": tokens}
        )
        return str(answer["choices"][0]["message"]["content"])


@contextmanager
def llama_cpp(path: Path) -> Iterator[LlamaCpp]:
    """Loads a GGUF file; its server listens on the loopback and ends with the block."""
    from xllamacpp import CommonParams, Server

    settings = CommonParams()
    settings.model.path = str(path)
    settings.n_ctx = 256
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 2
    settings.warmup = False
    server = Server(settings)
    try:
        yield LlamaCpp(server)
    finally:
        del server
