"""Several processes train as one does, and twice to the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.training.data.batches import EncodedExamples
from src.training.engine import data_parallel as module
from src.training.engine.data_parallel import TRAIN, DataParallel
from src.training.problems.classification.problem import Classification
from src.training.problems.regression.problem import Regression
from src.training.testing.tiny_model import build_tiny_model
from src.training.testing.tiny_training import CLASSES, SETTINGS, bits, data_parallel_maker, rows, train, weights

torch.set_num_threads(1)

Make = Callable[..., DataParallel]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", head=2)


@pytest.fixture
def make(base: Path) -> Iterator[Make]:
    with data_parallel_maker(base) as make:
        yield make


def assert_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], *, atol: float = 2e-4) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=atol), (name, (value - other[name]).abs().max())


VALUES = Regression(label_name="score")
WEIGHTED = Classification(class_names=CLASSES.class_names, class_weights=(1.0, 3.0))
CASES: dict[str, dict[str, Any]] = {
    "texts": {},
    "pairs": {"train": rows(37, seed=1, pairs=True)},
    "class weights": {"problem": WEIGHTED},
    "values": {"problem": VALUES, "train": rows(37, seed=1, values=True)},
    "without clipping": {"max_grad_norm": 0.0},
}


@pytest.mark.parametrize(("case", "processes"), [*((case, 2) for case in CASES), ("texts", 3)])
def test_processes_train_as_one_does(make: Make, case: str, processes: int) -> None:
    alone, together = make(threads=1, **CASES[case]), make(threads=processes, **CASES[case])
    assert (alone.processes, together.processes) == (1, processes)
    start = weights(alone)
    assert train(together) == pytest.approx(train(alone), abs=1e-4)
    assert_near(weights(together), weights(alone))
    # Where they go is 25 times as far as they may be apart. A key's bias adds the same to all that a query is compared
    # with: it has no gradient.
    moved = {
        name: (value - start[name]).abs().max() for name, value in weights(alone).items() if "key.bias" not in name
    }
    assert min(moved.values()) > 5e-3, moved


def test_the_models_own_code_trains_as_the_fused_layers_do(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = make(threads=2)
    monkeypatch.setattr(module, "fuse", lambda _model: None)
    own = make(threads=2)
    assert train(own) == pytest.approx(train(fused), abs=1e-4)
    assert_near(weights(own), weights(fused))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_twice_the_same_run_gives_the_same_bits(make: Make, processes: int) -> None:
    runs = [make(threads=processes, dropout=0.1) for _ in range(2)]
    # Whatever random numbers are drawn elsewhere does not matter.
    losses = []
    for one in runs:
        losses.append(train(one))
        torch.rand(3)
    assert losses[0] == losses[1]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))


@pytest.mark.parametrize(("dropout", "head_dropout"), [(0.3, 0.0), (0.0, 0.3)])
def test_dropout_differs_between_processes_and_steps(make: Make, dropout: float, head_dropout: float) -> None:
    # All rows are alike: without dropout so are the gradients of both processes.
    one_row = rows(1, seed=1)
    alike = EncodedExamples(
        ids=np.tile(one_row.ids, 8), starts=np.arange(9) * len(one_row.ids), labels=np.zeros(8, np.int64), pad_id=0
    )
    together = make(threads=2, dropout=dropout, head_dropout=head_dropout, train=alike, per_device_train_batch_size=8)
    found = []
    for step in (0, 1):
        # The step is not finished: weights stay.
        together._group.call("prepare", step)
        together._group.call("gradients", step)
        found += list(together.optimizer.flat.gradients.clone())
    for one, other in itertools.combinations(found, 2):
        assert one.any() and not torch.allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("left_over", [1, 2])
def test_a_batch_may_have_fewer_rows_than_there_are_processes(make: Make, left_over: int) -> None:
    few = {"train": rows(24 + left_over, seed=3)}
    alone, together = make(threads=1, **few), make(threads=3, **few)
    assert (together.steps_an_epoch, together.processes) == (3, 3)
    assert left_over in {together.size(step)[0] for step in range(3)}
    assert train(together) == pytest.approx(train(alone), abs=1e-4)
    assert_near(weights(together), weights(alone))


def test_a_step_tells_the_loss_of_its_batch(make: Make) -> None:
    together = make(threads=3)
    chosen = together._group.own.rows(0)
    batch = together.splits[TRAIN].batch(chosen)
    wanted = together.model.eval()(**batch).loss.item()
    loss, rate = together.step(0)
    assert loss == pytest.approx(wanted, abs=1e-5)
    assert rate == SETTINGS.learning_rate
    assert together.size(0) == (len(chosen), int(together.splits[TRAIN].lengths[chosen].sum()))


def test_an_embedding_that_is_frozen_stays(base: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    results = []
    for threads in (1, 2):
        model = AutoModelForSequenceClassification.from_pretrained(
            base, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        model.get_input_embeddings().weight.requires_grad = False
        before = model.get_input_embeddings().weight.clone()
        splits = {TRAIN: rows(37, seed=1)}
        with DataParallel(model, SETTINGS, splits=splits, problem=CLASSES, threads=threads) as together:
            train(together)
            results.append(weights(together))
            assert torch.equal(model.get_input_embeddings().weight, before)
    assert_near(*results)
