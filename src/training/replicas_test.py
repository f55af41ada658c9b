"""Several processes train as one does, to the same bits each time, and leave a whole model behind."""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.training import replicas as module
from src.training.batching import EncodedRows
from src.training.objective import PLAIN_CLASSIFICATION, Objective
from src.training.recipe import REGRESSION, Recipe
from src.training.replicas import PROGRESS, TRAIN, Replicas
from src.training.scoring import evaluate
from src.training.tiny_model import VOCABULARY, build_tiny_model

NAMES = ("bad", "good")
RECIPE = Recipe(
    per_device_train_batch_size=12,
    per_device_eval_batch_size=4,
    num_train_epochs=2,
    learning_rate=1e-2,
    max_grad_norm=0.5,
)


def rows(number: int, *, seed: int, pairs: bool = False, values: bool = False) -> EncodedRows:
    """Token rows whose label is whether `good` stands in them."""
    random = np.random.default_rng(seed)
    labels = np.arange(number) % 2
    words = [[VOCABULARY.index(word) for word in NAMES][label] for label in labels]
    texts = [[2, *random.integers(10, 40, random.integers(1, 8)), word, 3] for word in words]
    ids = np.concatenate(texts).astype(np.int32)
    return EncodedRows(
        ids=ids,
        starts=np.cumsum([0, *map(len, texts)]),
        labels=labels.astype(np.float32 if values else np.int64),
        pad_id=0,
        types=(ids % 2).astype(np.int8) if pairs else None,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", head=2)


Make = Callable[..., Replicas]


@pytest.fixture
def make(base: Path) -> Iterator[Make]:
    from transformers import AutoModelForSequenceClassification

    made: list[Replicas] = []

    def one(*, threads: int, dropout: float = 0.0, train: EncodedRows | None = None, **given: Any) -> Replicas:
        settings = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        objective = given.pop("objective", PLAIN_CLASSIFICATION)
        if objective.kind == REGRESSION:
            settings["num_labels"] = 1
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(base, ignore_mismatched_sizes=True, **settings)
        splits = {TRAIN: train or rows(37, seed=1), PROGRESS: given.pop("scored", rows(23, seed=2))}
        recipe = dataclasses.replace(RECIPE, **given)
        made.append(Replicas(model, recipe, splits=splits, objective=objective, threads=threads))
        return made[-1]

    yield one
    while made:
        made.pop().close()


def train(replicas: Replicas, *, first: int = 0, last: int | None = None) -> list[float]:
    """Takes steps; returns their losses. Leaves all weights settled."""
    last = replicas.steps if last is None else last
    losses = [replicas.step(step)[0] for step in range(first, last)]
    replicas.settle(done=last)
    return losses


def weights(replicas: Replicas) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in replicas.model.state_dict().items()}


def assert_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], *, atol: float = 2e-4) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=atol), (name, (value - other[name]).abs().max())


def bits(given: dict[str, torch.Tensor]) -> bytes:
    return b"".join(value.numpy().tobytes() for value in given.values())


REGRESSES = Objective(kind=REGRESSION, class_weights=None)
WEIGHS = Objective(kind=PLAIN_CLASSIFICATION.kind, class_weights=(1.0, 3.0))
CASES = {
    "texts": {},
    "pairs": {"train": rows(37, seed=1, pairs=True)},
    "class weights": {"objective": WEIGHS},
    "values": {"objective": REGRESSES, "train": rows(37, seed=1, values=True)},
    "without clipping": {"max_grad_norm": 0.0},
}


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("case", list(CASES))
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


def test_dropout_differs_between_processes(make: Make) -> None:
    # Two rows a process, all alike: without dropout all have one loss, with it each has its own.
    same = rows(1, seed=1)
    alike = EncodedRows(
        ids=np.tile(same.ids, 8), starts=np.arange(9) * len(same.ids), labels=np.zeros(8, np.int64), pad_id=0
    )
    together = make(threads=2, dropout=0.3, train=alike, per_device_train_batch_size=8)
    together.step(0)
    one, other = together.optimizer.flat.gradients.abs().sum(1).tolist()
    assert other > 0
    together._workers.call("gradients", 1)
    one, other = together.optimizer.flat.gradients
    assert not torch.allclose(one, other, rtol=1e-3, atol=1e-6)


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
    chosen = together._workers.own.rows(0)
    batch = together.splits[TRAIN].batch(chosen)
    wanted = together.model.eval()(**batch).loss.item()
    loss, rate = together.step(0)
    assert loss == pytest.approx(wanted, abs=1e-5)
    assert rate == RECIPE.learning_rate
    assert together.size(0) == (len(chosen), int(together.splits[TRAIN].lengths[chosen].sum()))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 3, 23, 150])
def test_scores_are_those_of_plain_evaluation(make: Make, processes: int, number: int) -> None:
    scored = rows(number, seed=5, pairs=True)
    together = make(threads=processes, scored=scored)
    train(together, last=3)
    ours = together.score(PROGRESS, name="dev", class_names=NAMES)
    wanted = evaluate(together.model, scored, split="dev", class_names=NAMES, batch_size=64)
    assert ours.predicted.tolist() == wanted.predicted.tolist()
    assert ours.confidence.tolist() == pytest.approx(wanted.confidence.tolist(), abs=1e-5)
    assert ours.class_metrics.loss == pytest.approx(wanted.class_metrics.loss, abs=1e-5)
    assert ours.class_metrics.confusion_matrix == wanted.class_metrics.confusion_matrix


def test_scoring_between_steps_changes_nothing(make: Make) -> None:
    plain, scored = make(threads=2, dropout=0.1), make(threads=2, dropout=0.1)
    losses = []
    for step in range(plain.steps):
        losses.append(scored.step(step)[0])
        scored.score(PROGRESS, name="dev", class_names=NAMES)
    scored.settle(done=plain.steps)
    assert losses == train(plain)
    assert bits(weights(scored)) == bits(weights(plain))


def test_scoring_can_be_ended_between_batches_and_begun_anew(make: Make) -> None:
    together = make(threads=2, scored=rows(150, seed=5))
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        together.score(PROGRESS, name="dev", class_names=NAMES, check=check)
    # 38 batches of 4.
    assert together.score(PROGRESS, name="dev", class_names=NAMES, check=check).class_metrics.examples == 150
    assert len(asked) == 2 + 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_goes_on_from_what_was_saved_to_the_same_bits(make: Make, processes: int) -> None:
    whole, first = (make(threads=processes, dropout=0.1) for _ in range(2))
    for step in range(whole.steps):
        whole.step(step)
    whole.settle(done=whole.steps)
    for step in range(3):
        first.step(step)
    state = copy.deepcopy(first.optimizer.state_dict())
    second = make(threads=processes, dropout=0.1)
    # It has gone another way before.
    second.step(0)
    second.load_state_dict(weights(first), state)
    train(second, first=3)
    assert bits(weights(second)) == bits(weights(whole))


@pytest.mark.parametrize("processes", [1, 2])
def test_after_close_the_model_has_its_trained_weights_to_itself(make: Make, processes: int) -> None:
    together = make(threads=processes)
    train(together)
    trained = weights(together)
    together.close()
    together.close()
    together.optimizer.flat.values.zero_()
    assert together.optimizer.words is not None
    assert bits(weights(together)) == bits(trained)
    for weight in together.model.parameters():
        assert weight.untyped_storage().nbytes() == weight.nbytes
    # And trains on by any other optimizer.
    plain = torch.optim.SGD(together.model.parameters(), lr=0.1)
    batch = together.splits[TRAIN].batch([0, 1])
    together.model.get_input_embeddings().sparse = False
    together.model.train()(**batch).loss.backward()
    plain.step()
    assert bits(weights(together)) != bits(trained)


def test_it_closes_itself_at_the_end_of_a_block(make: Make) -> None:
    with make(threads=2) as together:
        [process] = together._workers._processes
        together.step(0)
    assert not Path(f"/proc/{process}").exists()


def test_after_close_nothing_is_done_by_halves(make: Make) -> None:
    together = make(threads=2)
    together.close()
    with pytest.raises(RuntimeError, match="closed"):
        together.score(PROGRESS, name="dev", class_names=NAMES)


@pytest.mark.parametrize("then", ["step", "score", "settle"])
def test_a_killed_process_is_an_error(make: Make, then: str) -> None:
    together = make(threads=3)
    together.step(0)
    os.kill(together._workers._processes[1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="training process 2 was ended by SIGKILL"):
        {
            "step": lambda: together.step(1),
            "score": lambda: together.score(PROGRESS, name="dev", class_names=NAMES),
            "settle": lambda: together.settle(done=1),
        }[then]()
    together.close()


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
        with Replicas(model, RECIPE, splits=splits, objective=PLAIN_CLASSIFICATION, threads=threads) as together:
            train(together)
            results.append(weights(together))
            assert torch.equal(model.get_input_embeddings().weight, before)
    assert_near(*results)
