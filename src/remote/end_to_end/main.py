"""Remote execution from end to end, with Bazel and //src/remote:executor; tools/remote_check calls it.

Prints a line for each behaviour, `ok   remote: ...` or `FAIL remote: ...`. Whether a test ran remotely is read from
Bazel's build events, never from its output.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from src.remote.checks.test_strategies import REMOTE, REMOTE_HIT
from src.remote.collect import RESUME_FOLDER, remove_folder
from src.remote.end_to_end.bazel import CONFIG, Bazel, RunningTest
from src.remote.end_to_end.keys import EndToEndKeys
from src.remote.end_to_end.servers import Executor
from src.remote.results.test_outputs import outputs_folder, unpacked

TRAINING = "//src/training:training_test"
LANGUAGE_MODEL = "//src/training:llm_training_test"
THREE = (TRAINING, "//src/cache_manager:cache_manager_test", LANGUAGE_MODEL)
# A shorter training.
SHORT = ("--test_arg=--num_train_epochs=1",)
EIGHT = (
    "//src/remote/config:bazelrc_test",
    "//src/remote/config:execution_platform_test",
    "//src/remote/config:user_bazelrc_test",
    "//src/remote/nativelink:docker_files_test",
    "//src/remote/serving:gateway_test",
    "//src/remote:configure_test",
    "//src/remote:executor_test",
    "//src/remote:prepare_executor_test",
)
_MISTYPED = "docker://finetune-repo-executer:inputs-0"
_MODEL, _STOPPED = "model/model.safetensors", 3
_ADAPTER = "model/adapter/adapter_model.safetensors"
_DOCTOR_SECONDS = 30
_MAX_ATTEMPTS = 8


class EndToEnd:
    """The behaviours, ordered so that each can use the results of earlier ones."""

    def __init__(self, root: Path, scratch: Path) -> None:
        """Starts the executor; temporary files go to `scratch`."""
        self.root, self.scratch = root, scratch
        self.cache = scratch / "models"
        self.bazel = Bazel(root, scratch, environment={"FINETUNE_CACHE_DIR": str(self.cache)})
        self.executor = Executor(root, "--queue_unmatched")
        self.encrypted: Executor | None = None

    def close(self) -> None:
        """Stops the executors and Bazel and removes their files."""
        for executor in (self.executor, self.encrypted):
            if executor is not None:
                executor.stop()
        self.bazel.shutdown()
        remove_folder(self.root / RESUME_FOLDER)

    def run(self) -> int:
        """Checks all behaviours; returns how many failed."""
        failed = 0
        for behaviour in (
            self.tests_run_in_the_image_and_come_back,
            self.doctor_finds_nothing_wrong,
            self.the_model_is_collected_and_loads,
            self.a_second_run_is_a_remote_cache_hit,
            self.a_mistyped_image_is_named_in_time,
            self.eight_tests_on_two_slots_all_finish,
            self.a_language_model_has_the_bits_of_a_local_run,
            self.a_deadline_costs_no_bit,
            self.a_killed_executor_is_a_clear_failure_and_a_clean_retry,
            self.tls_is_verified,
            EndToEndKeys(self.root, self.scratch).a_wrong_key_is_refused_and_the_right_one_never_leaked,
            self.an_idle_executor_exits,
        ):
            failed += not self._holds(behaviour)
        return failed

    def _holds(self, behaviour: Callable[[], None]) -> bool:
        name, started = behaviour.__name__.replace("_", " "), time.monotonic()
        try:
            behaviour()
        except Exception:
            traceback.print_exc()
            print(f"FAIL remote: {name}", flush=True)
            return False
        print(f"ok   remote: {name} ({time.monotonic() - started:.0f} s)", flush=True)
        return True

    def tests_run_in_the_image_and_come_back(self) -> None:
        # A hit in the executor's cache would hide whether anything runs.
        done = self.bazel.test(*THREE, "--noremote_accept_cached", events="first.json")
        assert done.code == 0, done.output
        assert {(run.label, run.status, run.strategy) for run in done.runs} == {
            (label, "PASSED", REMOTE) for label in THREE
        }

    def doctor_finds_nothing_wrong(self) -> None:
        code, report = self._doctor(f"--build_events={self.scratch / 'first.json'}")
        assert code == 0, report
        levels = {finding["check"]: finding["level"] for finding in report["findings"]}
        assert set(levels.values()) == {"ok"}, report
        assert {"platform", "packages", "programs", "cpu", "isolation", "tests ran remotely"} <= set(levels)

    def the_model_is_collected_and_loads(self) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        done = self.bazel.run("//src/remote:collect")
        assert done.code == 0, done.output
        entry = Path(done.output.strip().splitlines()[-1])
        assert entry.is_relative_to(self.cache)
        model = AutoModelForSequenceClassification.from_pretrained(entry)
        encoded = AutoTokenizer.from_pretrained(entry)("A fine film.", return_tensors="pt")
        assert model(**encoded).logits.shape == (1, 2)

    def a_second_run_is_a_remote_cache_hit(self) -> None:
        self.bazel.command("clean")
        done = self.bazel.test(*THREE)
        assert done.code == 0, done.output
        assert {(run.status, run.strategy) for run in done.runs} == {("PASSED", REMOTE_HIT)}, done.runs

    def a_mistyped_image_is_named_in_time(self) -> None:
        started = time.monotonic()
        code, report = self._doctor(f"--image={_MISTYPED}")
        assert time.monotonic() - started < _DOCTOR_SECONDS
        [error] = [finding for finding in report["findings"] if finding["level"] == "error"]
        assert code == 1
        assert error["cause"].startswith(f"no worker has container-image={_MISTYPED}"), error

    def eight_tests_on_two_slots_all_finish(self) -> None:
        done = self.bazel.test(*EIGHT, "--noremote_accept_cached", "--jobs=8")
        assert done.code == 0, done.output
        assert sorted((run.label, run.strategy) for run in done.runs) == [(label, REMOTE) for label in EIGHT]

    def a_language_model_has_the_bits_of_a_local_run(self) -> None:
        # Of the first behaviour; a local run leaves its own in the same place.
        remote = self._adapter_sha256()
        local = self.bazel.test(LANGUAGE_MODEL, config=None)
        assert (local.code, [run.ran_remotely for run in local.runs]) == (0, [False]), local.output
        here = self._adapter_sha256()
        assert remote == here, f"the adapter trained remotely is {remote}, the local one {here}"
        print(f"remote: adapter {remote}, there and here", flush=True)

    def a_deadline_costs_no_bit(self) -> None:
        local = self.bazel.test(TRAINING, *SHORT, config=None)
        assert local.code == 0, local.output
        assert [run.ran_remotely for run in local.runs] == [False]
        uninterrupted = self._output(_MODEL)
        training = json.loads(self._output("model/metrics.json"))["train"]["seconds"]
        # In the middle of the training if this machine is as fast as before; sooner if that was too late.
        seconds = 1.2 * (local.runs[0].seconds - training) + 0.4 * training
        stopped_after: list[int] = []
        for _ in range(_MAX_ATTEMPTS):
            resumes = len(stopped_after) > 3 or any(stopped_after)
            deadline = () if resumes else (f"--test_arg=--deadline_seconds={seconds:.1f}",)
            done = self.bazel.test(TRAINING, *SHORT, *deadline, "--noremote_accept_cached")
            assert [run.strategy for run in done.runs] == [REMOTE], done.output
            if done.code == 0 and stopped_after:
                break
            if done.code == 0:
                seconds *= 0.7
                continue
            if not self._has_output("model.checkpoint/metrics.json"):
                # A slow start: it ended before there was anything to keep.
                seconds *= 1.3
                continue
            metrics = json.loads(self._output("model.checkpoint/metrics.json"))
            assert metrics["status"] == "stopped_at_deadline"
            self._output("model.checkpoint/events.jsonl")
            stopped_after.append(metrics["train"]["steps"])
            collected = self.bazel.run("//src/remote:collect")
            assert collected.code == _STOPPED, collected.output
        print(f"remote: stopped after {stopped_after} steps", flush=True)
        assert any(stopped_after), "the deadline never fell within the training"
        assert self._output(_MODEL) == uninterrupted, "the weights differ from those of an uninterrupted local run"
        assert self.bazel.run("//src/remote:collect").code == 0

    def a_killed_executor_is_a_clear_failure_and_a_clean_retry(self) -> None:
        fewer = "--test_arg=--max_train_samples=2000"
        arguments = (TRAINING, *SHORT, fewer, "--test_arg=--seed=7", "--noremote_accept_cached")
        running = RunningTest(self.bazel, *arguments)
        self.executor.wait_for_an_action()
        self.executor.kill()
        output, code = running.wait()
        assert code not in (0, None), output
        assert "UNAVAILABLE" in output, output
        self.executor = Executor(self.root, "--queue_unmatched")
        done = self.bazel.test(*arguments)
        assert (done.code, [run.strategy for run in done.runs]) == (0, [REMOTE]), done.output

    def tls_is_verified(self) -> None:
        self.executor.stop()
        state = self.scratch / "encrypted"
        self.encrypted = Executor(
            self.root, "--tls", "--image=host", "--port=0", f"--state_dir={state}", "--idle_minutes=0.5"
        )
        flags = (f"--remote_executor={self.encrypted.url}", "--wait=2")
        _, report = self._doctor(*flags)
        [error] = [finding for finding in report["findings"] if finding["level"] == "error"]
        assert error["cause"].startswith("its certificate is not trusted"), error
        _, report = self._doctor(*flags, f"--tls_certificate={state / 'tls' / 'certificate.pem'}")
        levels = {finding["check"]: finding["level"] for finding in report["findings"]}
        assert (levels["executor reached"], levels["executor key"], levels["platform"]) == ("ok", "ok", "ok"), report

    def an_idle_executor_exits(self) -> None:
        # Idle since TLS was verified, for longer than `doctor` takes to start.
        assert self.encrypted is not None, "it did not start"
        assert self.encrypted.wait() == 0

    def _doctor(self, *arguments: str) -> tuple[int, dict]:
        done = self.bazel.run("//src/remote:doctor", f"--config={CONFIG}", "--json", *arguments)
        return done.code, json.loads(done.output)

    def _adapter_sha256(self) -> str:
        return hashlib.sha256(self._output(_ADAPTER, test=LANGUAGE_MODEL)).hexdigest()

    def _has_output(self, name: str) -> bool:
        with unpacked(outputs_folder(self.root, TRAINING), scratch=self.scratch / "outputs") as outputs:
            return (outputs / name).exists()

    def _output(self, name: str, *, test: str = TRAINING) -> bytes:
        with unpacked(outputs_folder(self.root, test), scratch=self.scratch / "outputs") as outputs:
            return (outputs / name).read_bytes()


def main() -> int:
    """Entry point; returns the exit code."""
    root = Path(__file__).resolve().parents[3]
    os.environ["BUILD_WORKSPACE_DIRECTORY"] = str(root)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="remote_check.") as scratch:
        checks = EndToEnd(root, Path(scratch))
        try:
            return 1 if checks.run() else 0
        finally:
            checks.close()


if __name__ == "__main__":
    sys.exit(main())
