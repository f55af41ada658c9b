"""Tokenised rows, their batches, and whether the shuffle is a fair one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.training.data import batches as batching
from src.training.data.batches import EncodedExamples, encode, epoch_batches, scoring_batches
from src.training.data.rows import Examples
from src.training.testing.tiny_model import build_tiny_model

# Rows of 2, 0, 3 and 1 tokens.
ROWS = EncodedExamples(
    ids=np.array([11, 12, 31, 32, 33, 41], np.int32), starts=np.array([0, 2, 2, 5, 6]), labels=np.arange(4), pad_id=9
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(build_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


def like_sst2(rows: int) -> np.ndarray:
    """Token counts as of SST-2's train rows: 3 at least, 13 on average, a long tail."""
    return np.clip(np.random.default_rng(0).gamma(1.2, 8.5, rows).astype(np.int64) + 3, 3, 66)


def deal(lengths: np.ndarray, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in epoch_batches(lengths, batch_size=16, seed=seed, epoch=epoch)]


@pytest.mark.parametrize("rows", [1, 16, 17, 800, 801, 5000])
def test_every_row_is_dealt_once_an_epoch_in_full_batches(rows: int) -> None:
    batches = deal(like_sst2(rows))
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert len(batches) == -(-rows // 16)
    assert sorted(map(len, batches))[1:] == [16] * (len(batches) - 1)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = like_sst2(2000)
    first = deal(lengths)
    assert first == deal(lengths)
    assert first != deal(lengths, seed=1)
    assert first != deal(lengths, epoch=1)
    # Seed and epoch are not added up: the second epoch of one run is no other run's first.
    assert deal(lengths, epoch=1) != deal(lengths, seed=1)


def test_what_meets_what_changes_from_epoch_to_epoch() -> None:
    lengths = like_sst2(2000)
    met = [{frozenset(batch) for batch in deal(lengths, epoch=epoch)} for epoch in (0, 1)]
    assert not met[0] & met[1]


def test_little_of_a_batch_is_padding() -> None:
    lengths = like_sst2(20_000)
    padded = sum(len(batch) * lengths[batch].max() for batch in deal(lengths))
    # A plain shuffle pads more than half of each batch.
    assert 1 - lengths.sum() / padded < 0.05


def test_long_and_short_rows_are_met_at_any_time_of_an_epoch() -> None:
    lengths = like_sst2(1000)
    ranks = np.zeros((200, len(lengths)))
    for epoch in range(200):
        ranks[epoch, np.concatenate(epoch_batches(lengths, batch_size=16, seed=3, epoch=epoch))] = np.arange(1000)
    means = ranks.mean(axis=0)
    # A rank is uniform on 0..999: 499.5 on average, and 20.4 is the standard deviation of a mean over 200 epochs.
    assert abs(means - 499.5).max() < 5 * 20.4
    for group in (lengths <= np.quantile(lengths, 0.1), lengths >= np.quantile(lengths, 0.9)):
        # About 100 rows, hardly correlated; a batch of like rows moves together, hence the room.
        assert abs(means[group].mean() - 499.5) < 20
        assert ranks[:, group].std() == pytest.approx(1000 / np.sqrt(12), rel=0.05)


def test_batches_are_not_sorted_by_length_over_the_epoch() -> None:
    lengths = like_sst2(5000)
    longest = np.array([lengths[batch].max() for batch in deal(lengths)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_scoring_meets_every_row_once_from_short_to_long() -> None:
    lengths = like_sst2(100)
    rows = np.concatenate(list(scoring_batches(lengths, batch_size=16)))
    assert sorted(rows) == list(range(100))
    assert (np.diff(lengths[rows]) >= 0).all()


def test_a_batch_is_padded_to_its_longest_row_and_masked() -> None:
    batch = ROWS.batch([2, 0])
    assert batch["input_ids"].tolist() == [[31, 32, 33], [11, 12, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [2, 0]
    assert {str(values.dtype) for values in batch.values()} == {"torch.int64"}


def test_a_row_without_tokens_is_all_padding() -> None:
    assert ROWS.batch(np.array([1, 3]))["attention_mask"].tolist() == [[0], [1]]


def test_texts_are_encoded_as_the_tokenizer_does(tokenizer: Any) -> None:
    texts = ("the film was good", "dull", "a very great story!")
    rows = encode(Examples(split="train", texts=texts, labels=(1, 0, 1)), tokenizer=tokenizer, max_seq_length=32)
    wanted = tokenizer(list(texts), padding=True, return_tensors="pt")
    batch = rows.batch([0, 1, 2])
    assert batch["input_ids"].tolist() == wanted["input_ids"].tolist()
    assert batch["attention_mask"].tolist() == wanted["attention_mask"].tolist()
    assert (rows.pad_id, len(rows), rows.lengths.tolist()) == (tokenizer.pad_token_id, 3, [6, 3, 7])


def test_a_long_text_is_cut_and_keeps_its_closing_token(tokenizer: Any) -> None:
    rows = encode(Examples(split="train", texts=("good " * 50,), labels=(0,)), tokenizer=tokenizer, max_seq_length=8)
    assert tokenizer.convert_ids_to_tokens(rows.ids.tolist()) == ["[CLS]", *["good"] * 6, "[SEP]"]


def test_no_rows_can_be_encoded(tokenizer: Any) -> None:
    assert len(encode(Examples(split="test", texts=(), labels=()), tokenizer=tokenizer, max_seq_length=8)) == 0


def test_every_row_has_the_ids_of_the_tokenizers_own_call(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "TEXTS_AT_ONCE", 3)
    texts = ("a good film", "", "[SEP] not [MASK]", "ça va 😀", "\tdull\n", "good " * 50, "Good, BAD!", "fine")
    rows = encode(Examples(split="train", texts=texts, labels=(0,) * 8), tokenizer=tokenizer, max_seq_length=12)
    wanted = tokenizer(list(texts), truncation=True, max_length=12)["input_ids"]
    assert [rows.ids[start:end].tolist() for start, end in zip(rows.starts, rows.starts[1:], strict=False)] == wanted
    assert (rows.ids.dtype.name, rows.starts.dtype.name) == ("int32", "int64")


def test_a_process_that_has_tokenised_can_be_forked_and_the_child_can_train(tmp_path: Path) -> None:
    # The tokenizer has threads of its own by then, and a fork takes none of them along.
    build_tiny_model(tmp_path / "tiny")
    program = f"""
import os, torch
from transformers import AutoTokenizer
from src.training.data.batches import encode
from src.training.data.rows import Examples
tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / "tiny")!r})
rows = Examples(split="train", texts=("a good film",) * 3000, labels=(0,) * 3000)
encode(rows, tokenizer=tokenizer, max_seq_length=8)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        weights = torch.randn(300, 300, requires_grad=True)
        (weights @ weights).sum().backward()
        os._exit(0 if torch.isfinite(weights.grad).all() else 1)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[0, 0]\n", "")


PAIRS = Examples(
    split="train",
    texts=("the film was good", "dull", "a very great story!"),
    text_pairs=("a good story", "the story was not very great", "fine"),
    labels=(1, 0, 1),
)


def test_pairs_are_encoded_as_the_tokenizer_does(tokenizer: Any) -> None:
    wanted = tokenizer(list(PAIRS.texts), list(PAIRS.text_pairs or ()), padding=True, return_tensors="pt")
    batch = encode(PAIRS, tokenizer=tokenizer, max_seq_length=32, token_types=True).batch([0, 1, 2])
    assert {name: values.tolist() for name, values in batch.items() if name != "labels"} == {
        name: values.tolist() for name, values in wanted.items()
    }
    assert wanted["token_type_ids"].sum() > 0
    assert str(batch["token_type_ids"].dtype) == "torch.int64"


def test_types_are_left_out_where_the_model_has_none_and_of_single_texts(tokenizer: Any) -> None:
    without = encode(PAIRS, tokenizer=tokenizer, max_seq_length=32)
    single = Examples(split="train", texts=PAIRS.texts, labels=PAIRS.labels)
    assert without.types is None
    for token_types in (True, False):
        rows = encode(single, tokenizer=tokenizer, max_seq_length=32, token_types=token_types)
        assert rows.types is None
        assert set(rows.batch([0, 1])) == {"input_ids", "labels", "attention_mask"}


def test_of_a_long_pair_the_longer_text_is_cut(tokenizer: Any) -> None:
    pair = Examples(split="train", texts=("good " * 50,), text_pairs=("bad film",), labels=(0,))
    rows = encode(pair, tokenizer=tokenizer, max_seq_length=8, token_types=True)
    words = ["[CLS]", *["good"] * 3, "[SEP]", "bad", "film", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(rows.ids.tolist()) == words
    assert rows.types is not None
    assert rows.types.tolist() == [0] * 5 + [1] * 3


def test_values_are_float32_and_classes_int64(tokenizer: Any) -> None:
    for labels, dtype in (((0.5, 2.0), np.float32), ((0, 2), np.int64)):
        rows = Examples(split="train", texts=("a", "b"), labels=labels)
        assert encode(rows, tokenizer=tokenizer, max_seq_length=8).batch([0, 1])["labels"].numpy().dtype == dtype
