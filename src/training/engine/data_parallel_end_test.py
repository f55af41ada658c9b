"""Scores on the way, going on from a checkpoint, and what is left when the processes end, well or not."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from src.training.engine.data_parallel import TRAIN, VALIDATION, DataParallel
from src.training.evaluation.scoring import evaluate
from src.training.testing.tiny_model import build_tiny_model
from src.training.testing.tiny_training import CLASSES, bits, data_parallel_maker, rows, train, weights

torch.set_num_threads(1)

Make = Callable[..., DataParallel]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny", head=2)


@pytest.fixture
def make(base: Path) -> Iterator[Make]:
    with data_parallel_maker(base) as make:
        yield make


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


def test_scoring_can_be_ended_between_batches_and_begun_anew(make: Make) -> None:
    together = make(threads=2, scored=rows(150, seed=5))
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        together.score(VALIDATION, name="dev", check=check)
    # 38 batches of 4.
    assert together.score(VALIDATION, name="dev", check=check).metrics.examples == 150
    assert len(asked) == 2 + 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_goes_on_from_what_was_saved_to_the_same_bits(make: Make, processes: int) -> None:
    whole, first = (make(threads=processes, dropout=0.1) for _ in range(2))
    for step in range(whole.steps):
        whole.step(step)
    whole.catch_up_all(done=whole.steps)
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


def test_after_close_nothing_is_done_by_halves(make: Make) -> None:
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
