"""Several processes train and score as one does, and twice to the same bits; none outlives its use."""

from __future__ import annotations

import copy
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.training.data.batches import EncodedExamples
from src.training.engine import data_parallel as module
from src.training.engine.data_parallel import TRAIN, VALIDATION, DataParallel
from src.training.evaluation.scoring import evaluate
from src.training.problems.classification.problem import Classification
from src.training.problems.regression.problem import Regression
from src.training.testing.tiny_model import build_tiny_model
from src.training.testing.tiny_training import CLASSES, SETTINGS, bits, build_data_parallel, rows, train, weights

torch.set_num_threads(1)

Make = Callable[..., DataParallel]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", head=2)


@pytest.fixture
def make(base: Path) -> Iterator[Make]:
    """Gives build_data_parallel for the model; closes afterwards what it built."""
    built: list[DataParallel] = []

    def build(**options: Any) -> DataParallel:
        built.append(build_data_parallel(base, **options))
        return built[-1]

    yield build
    for data_parallel in built:
        data_parallel.close()


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


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("case", ["texts", "class weights"])
def test_accumulated_batches_train_as_one_of_them_all_does(make: Make, case: str, processes: int) -> None:
    parts = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    whole, accumulated = make(threads=1, **CASES[case]), make(threads=processes, **parts, **CASES[case])
    assert accumulated.steps == whole.steps
    assert train(accumulated) == pytest.approx(train(whole), abs=1e-4)
    assert_near(weights(accumulated), weights(whole))


def test_steps_may_be_counted_in_place_of_epochs(make: Make) -> None:
    # 37 rows are 4 steps of 12 rows.
    assert [make(threads=1, max_steps=steps).steps for steps in (None, 3, 9)] == [8, 3, 9]


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
    gradients = []
    for step in (0, 1):
        # The step is not finished: weights stay.
        together._group.call("prepare", step)
        together._group.call("gradients", step)
        gradients += list(together.optimizer.flat.gradients.clone())
    for one, other in itertools.combinations(gradients, 2):
        assert one.any() and not torch.allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("left_over", [1, 2])
def test_a_batch_may_have_fewer_rows_than_there_are_processes(make: Make, left_over: int) -> None:
    few = {"train": rows(24 + left_over, seed=3)}
    alone, together = make(threads=1, **few), make(threads=3, **few)
    assert (together.steps_an_epoch, together.processes) == (3, 3)
    assert left_over in {together.size(step)[0] for step in range(3)}
    assert train(together) == pytest.approx(train(alone), abs=1e-4)
    assert_near(weights(together), weights(alone))


def test_a_step_returns_the_loss_of_its_batch(make: Make) -> None:
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


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 3, 23, 150])
def test_scores_are_those_of_plain_evaluation(make: Make, processes: int, number: int) -> None:
    scored = rows(number, seed=5, pairs=True)
    together = make(threads=processes, scored=scored)
    train(together, last=3)
    ours = together.score(VALIDATION, name="dev")
    wanted = evaluate(together.model, scored, split="dev", problem=CLASSES, batch_size=64)
    assert ours.predicted.tolist() == wanted.predicted.tolist()
    assert ours.confidence.tolist() == pytest.approx(wanted.confidence.tolist(), abs=1e-5)
    assert ours.metrics.loss == pytest.approx(wanted.metrics.loss, abs=1e-5)
    assert ours.metrics.as_json()["confusion_matrix"] == wanted.metrics.as_json()["confusion_matrix"]


def test_scoring_between_steps_changes_nothing(make: Make) -> None:
    plain, scored = make(threads=2, dropout=0.1), make(threads=2, dropout=0.1)
    losses = []
    for step in range(plain.steps):
        losses.append(scored.step(step)[0])
        scored.score(VALIDATION, name="dev")
    scored.catch_up_all(done=plain.steps)
    assert losses == train(plain)
    assert bits(weights(scored)) == bits(weights(plain))


def test_scoring_can_be_ended_between_batches_and_started_over(make: Make) -> None:
    together = make(threads=2, scored=rows(150, seed=5))
    checks = []

    def check() -> None:
        checks.append(1)
        if len(checks) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        together.score(VALIDATION, name="dev", check=check)
    # 38 batches of 4.
    assert together.score(VALIDATION, name="dev", check=check).metrics.examples == 150
    assert len(checks) == 2 + 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_resumes_from_what_was_saved_to_the_same_bits(make: Make, processes: int) -> None:
    whole, first = (make(threads=processes, dropout=0.1) for _ in range(2))
    for step in range(whole.steps):
        whole.step(step)
    whole.catch_up_all(done=whole.steps)
    for step in range(3):
        first.step(step)
    state = copy.deepcopy(first.optimizer.state_dict())
    second = make(threads=processes, dropout=0.1)
    # It took another step before.
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
    assert together.optimizer.embedding is not None
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
        [process] = together._group._processes
        together.step(0)
    assert not Path(f"/proc/{process}").exists()


def test_after_close_a_call_is_refused(make: Make) -> None:
    together = make(threads=2)
    together.close()
    with pytest.raises(RuntimeError, match="closed"):
        together.score(VALIDATION, name="dev")


@pytest.mark.parametrize("then", ["step", "score", "catch_up_all"])
def test_a_killed_process_is_an_error(make: Make, then: str) -> None:
    together = make(threads=3)
    together.step(0)
    os.kill(together._group._processes[1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="training process 2 was ended by SIGKILL"):
        {
            "step": lambda: together.step(1),
            "score": lambda: together.score(VALIDATION, name="dev"),
            "catch_up_all": lambda: together.catch_up_all(done=1),
        }[then]()
    together.close()
