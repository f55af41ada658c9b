"""Answers: the same alone and in a batch, ended where they should be, and sampled as asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from src.training.fused.causal import CausalForward
from src.training.inference.generator import Answer, Decoding, common_prefix, generate
from src.training.testing.chain_model import build_chain_model
from src.training.testing.tiny_kinds import build_tiny_chat_tokenizer

VOCABULARY = 40
STOPS = frozenset({2, 10})


def random_model(*, spread: float = 1.0) -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=spread,
    )
    return LlamaForCausalLM(config).eval()


def greedy(max_new_tokens: int = 12, **settings: Any) -> Decoding:
    return Decoding(max_new_tokens=max_new_tokens, stop_ids=STOPS, **settings)


PROMPTS = [
    [5, 6, 7, 8, 9, 10],
    [5, 6, 7],
    [5, 6, 7, 30],
    [5],
    [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18],
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def forward() -> CausalForward:
    return CausalForward(random_model())


@pytest.mark.parametrize("decoding", [greedy(), greedy(temperature=1.0, seed=3)])
def test_a_prompts_answer_is_the_same_alone_and_in_a_batch(forward: CausalForward, decoding: Decoding) -> None:
    assert forward.shares_prefix
    together = generate(forward, PROMPTS, decoding)
    assert together == [generate(forward, [prompt], decoding)[0] for prompt in PROMPTS]
    assert together == generate(forward, PROMPTS[::-1], decoding)[::-1]
    assert len({answer.ids for answer in together}) > 1 and {len(answer.ids) for answer in together} != {12}


def test_greedy_answers_are_those_of_transformers(forward: CausalForward) -> None:
    model = random_model()
    for prompt, answer in zip(PROMPTS, generate(forward, PROMPTS, greedy()), strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=sorted(STOPS), pad_token_id=0
        )[0, len(prompt) :].tolist()
        assert list(answer.ids) == [token for token in theirs if token not in STOPS]


def test_two_tokens_that_are_all_but_equal_are_decided_by_the_row_alone() -> None:
    # All logits within a thousandth of one another, so that another order of sums may turn any two of them around.
    forward = CausalForward(random_model(spread=1e-4))
    asked: list[list[int]] = []
    alone = forward.last_logits

    def noted(ids: torch.Tensor) -> torch.Tensor:
        asked.append(ids.tolist())
        return alone(ids)

    forward.last_logits = noted  # type: ignore[method-assign]
    answers = generate(forward, PROMPTS[:2], greedy(3))
    for prompt, answer in zip(PROMPTS, answers, strict=False):
        row = list(prompt)
        for token in answer.ids:
            assert row in asked
            assert token == int(alone(torch.tensor(row)).argmax())
            row.append(token)


def chain(folder: Path, *texts: str, **sizes: Any) -> tuple[CausalForward, Any]:
    tokenizer = build_tiny_chat_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(build_chain_model(folder, texts, tokenizer=tokenizer, **sizes))
    return CausalForward(model.eval()), tokenizer


def test_an_answer_ends_at_a_stop_token_or_is_marked_as_cut(tmp_path: Path) -> None:
    forward, tokenizer = chain(tmp_path / "model", "filmwasnotgood<|im_end|>", "aa")
    prompts = tokenizer(["film", "was", "good", "a"]).input_ids
    seen: list[tuple[int, int]] = []
    decoding = Decoding(max_new_tokens=3, stop_ids=frozenset({tokenizer.eos_token_id}))
    answers = generate(forward, prompts, decoding, on_token=lambda row, token: seen.append((row, token)))
    texts = [tokenizer.decode(answer.ids) for answer in answers]
    # As many as allowed, and then the end: not cut.
    assert (texts[:3], [answer.is_cut for answer in answers]) == (["wasnotgood", "notgood", ""], [False] * 3 + [True])
    assert [[token for row, token in seen if row == number] for number in range(4)] == [
        list(answer.ids) for answer in answers
    ]
    assert generate(forward, prompts[:1], Decoding(max_new_tokens=2, stop_ids=decoding.stop_ids))[0].is_cut


def test_a_model_out_of_positions_ends_its_answer(forward: CausalForward) -> None:
    (answer,) = generate(forward, [[5, 6, 7]], Decoding(max_new_tokens=50, stop_ids=frozenset(), max_tokens=8))
    assert (len(answer.ids), answer.is_cut) == (5, True)


def test_models_that_cannot_share_a_prefix_answer_too() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32, initializer_range=1.0)
    forward = CausalForward(GPT2LMHeadModel(config).eval())
    shared = generate(forward, PROMPTS, greedy())
    forward.shares_prefix = False
    seen: list[int] = []
    assert generate(forward, PROMPTS, greedy(), on_token=lambda _, token: seen.append(token)) == shared
    assert seen == [token for answer in shared for token in answer.ids]


def distribution(forward: CausalForward, samples: int = 40, **settings: Any) -> dict[int, float]:
    """Shares of the first tokens of an answer."""
    drawn = Decoding(max_new_tokens=1, stop_ids=frozenset(), temperature=1.0)
    first = [generate(forward, [[5, 6]], replace(drawn, seed=seed, **settings))[0].ids for seed in range(samples)]
    tokens, counts = np.unique(first, return_counts=True)
    return dict(zip(tokens.tolist(), (counts / samples).tolist(), strict=True))


def test_samples_follow_the_probabilities_and_the_limits() -> None:
    forward = CausalForward(random_model(spread=0.3))
    with torch.no_grad():
        logits = forward.last_logits(torch.tensor([5, 6])).double()
    odds = logits.softmax(0)
    order = odds.argsort(descending=True).tolist()
    found = distribution(forward, 200)
    for token in order[:3]:
        assert found.get(token, 0) == pytest.approx(float(odds[token]), abs=0.12)
    assert set(distribution(forward, top_k=2)) == set(order[:2])
    nucleus = 1 + int((odds[order].cumsum(0) < 0.5).sum())
    assert 2 < nucleus < 10
    assert set(order[:2]) < set(distribution(forward, top_p=0.5)) <= set(order[:nucleus])
    assert set(distribution(forward, 5, top_p=0.0)) == set(distribution(forward, 5, temperature=1e-4)) == {order[0]}


def test_a_seed_gives_the_same_sample_again(forward: CausalForward) -> None:
    def answers(seed: int) -> list[Answer]:
        return generate(forward, PROMPTS, greedy(temperature=1.5, seed=seed))

    assert answers(1) == answers(1) != answers(2)


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [(PROMPTS, 0), (PROMPTS[:3], 2), ([[1, 2, 3]], 2), ([[1, 2], [1, 2]], 1), ([[1, 2], [2, 1]], 0)],
)
def test_a_common_prefix_leaves_every_prompt_a_token(prompts: list[list[int]], shared: int) -> None:
    assert common_prefix(prompts) == shared
