"""docker/run_action between NativeLink and an action; these tests play NativeLink's part."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from src.remote.checks import isolation
from src.remote.nativelink.docker_files import ROOT

DOCKER = ROOT / "docker"
PYTHON = "/usr/bin/python3"  # the image's; those of other users are often out of reach
WORKER_USER = 10002
NEEDED_BY_BUBBLEWRAP = ("clone", "mount", "pivot_root", "umount2", "unshare")


def can_change_users() -> bool:
    """Whether this is root with other users: not so in a sandbox that maps one user alone."""
    return os.geteuid() == 0 and subprocess.run([*as_user(WORKER_USER), "true"], check=False).returncode == 0


def as_user(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all"]


class Worker:
    """A worker's folder, with a store, and what starts its actions.

    Attributes:
        root: the folder.
        is_root: whether NativeLink runs as root.
        prefix: the command that changes to NativeLink's user.
        stored: a file of the store, which is a hard link of each action's `input`.
        is_static: whether the entrypoint is the static program that it is in the image.
    """

    def __init__(self, root: Path, *, is_root: bool) -> None:
        self.root, self.is_root = root, is_root
        self.prefix = as_user(WORKER_USER) if os.geteuid() == 0 and not is_root else []
        root.chmod(0o755)
        # Copies, since the checkout may be in a folder that other users cannot read.
        self.program = Path(shutil.copy(DOCKER / "run_action.py", root))
        self.entrypoint = root / "run_action"
        text = (DOCKER / "run_action").read_text()
        text = text.replace("/opt/nativelink/run_action.pyc", str(self.program)).replace(
            "/var/lib/nativelink", str(root)
        )
        self.is_static = Path("/bin/busybox").exists()
        if not self.is_static:
            text = text.replace("/bin/busybox env", "/usr/bin/env").replace("/bin/busybox", "/bin")
            text = text.replace("#!/bin sh", "#!/bin/sh")
        self.entrypoint.write_text(text)
        self.entrypoint.chmod(0o755)
        (root / "work").mkdir()
        self.stored = root / "store" / "digest"
        self.stored.parent.mkdir()
        self.stored.write_text("stored")
        self.stored.chmod(0o555)
        if self.prefix:
            subprocess.run(["chown", "-R", f"{WORKER_USER}:{WORKER_USER}", root], check=True)

    def as_worker(self, *command: str | Path, **arguments: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command as NativeLink's user."""
        return subprocess.run([*self.prefix, *command], text=True, capture_output=True, timeout=30, **arguments)

    def start(self, *command: str, **arguments: Any) -> str:
        """Runs the part that finds out; returns what it says."""
        environment = {"FINETUNE_ACTION_GRACE_SECONDS": "5", "FINETUNE_ACTION_HIDDEN": "/etc/passwd"}
        done = self.as_worker(
            *command, PYTHON, "-IS", self.program, "start", self.root, env=environment, check=False, **arguments
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def pretend(self, name: str, value: float) -> None:
        """Does as if the start had found another value."""
        findings = self.root / "isolation"
        findings.write_text(re.sub(rf"^{name} .*$", f"{name} {value}", findings.read_text(), flags=re.MULTILINE))

    def timed_out(self, *command: str, shows: str = "") -> Action:
        """Runs an action to its time limit; to a longer one if it did not come to show this text by then."""
        for seconds in (0.3, 3.0, 30.0):
            self.pretend("grace", seconds)
            action = self.action(*command, seconds=seconds)
            assert action.end() == 124
            if shows in action.stdout:
                break
        return action

    def action(self, *command: str, seconds: float = 20, variables: Mapping[str, str] | None = None) -> Action:
        """Prepares and starts an action as NativeLink does."""
        folder = self.root / "work" / f"action-{time.monotonic_ns()}"
        paths = f'mkdir -p "{folder}/work/inputs" && ln "{self.stored}" "{folder}/work/inputs/input"'
        self.as_worker("sh", "-c", paths, check=True)
        report = folder / "report"
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "FINETUNE_ACTION_FOLDER": str(folder),
            "FINETUNE_ACTION_TIME_LIMIT_MS": str(int(seconds * 1000)),
            "FINETUNE_ACTION_REPORT": str(report),
        }
        process = subprocess.Popen(
            [*self.prefix, self.entrypoint, *command],
            cwd=folder / "work",
            env={**environment, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return Action(self, folder, report, process)


class Action:
    """A started action."""

    def __init__(self, worker: Worker, folder: Path, report: Path, process: subprocess.Popen[bytes]) -> None:
        self.worker, self.folder, self.report, self.process = worker, folder, report, process
        self.stdout = self.stderr = ""

    def end(self) -> int:
        """Waits as NativeLink does, for the process and for the end of its output; returns the exit code."""
        stdout, stderr = self.process.communicate(timeout=30)
        self.stdout, self.stderr = stdout.decode(), stderr.decode()
        return self.process.returncode

    def check_left_behind(self) -> None:
        """Checks that everything is the worker's, and that it can remove it."""
        worker = 0 if self.worker.is_root else self.worker.root.stat().st_uid
        found = self.worker.as_worker("find", self.folder, "!", "-user", str(worker), check=False)
        assert (found.stdout, found.stderr) == ("", "")
        self.worker.as_worker("rm", "-r", self.folder, check=True, env={"PATH": "/usr/bin:/bin"})


@pytest.fixture
def make_worker() -> Iterator[Callable[[str], Worker]]:
    """Makes a worker whose NativeLink runs as `root` or as `user`."""
    # Not tmp_path, which other users cannot enter.
    with tempfile.TemporaryDirectory() as folder:

        def make(user: str) -> Worker:
            if (user == "root" or os.geteuid() == 0) and not can_change_users():
                pytest.skip(f"a worker that is {user}: these tests do not run as root, or know no other user here")
            return Worker(Path(folder), is_root=user == "root")

        yield make


@pytest.fixture(params=["root", "user"])
def sandboxed(request: pytest.FixtureRequest, make_worker: Callable[[str], Worker]) -> Worker:
    """A worker that can use namespaces."""
    worker = make_worker(request.param)
    said = worker.start()
    if "namespaces of their own" not in said:
        pytest.skip(f"namespaces are refused here: {said}")
    return worker


@pytest.fixture(params=["root, namespaces", "root", "user, namespaces", "user"])
def worker(request: pytest.FixtureRequest, make_worker: Callable[[str], Worker]) -> Worker:
    """A worker of each kind."""
    user, _, namespaces = request.param.partition(", ")
    worker = make_worker(user)
    said = worker.start()
    if not namespaces:
        worker.pretend("namespaces", 0)
    elif "namespaces of their own" not in said:
        pytest.skip(f"namespaces are refused here: {said}")
    return worker


def running(marker: str) -> list[str]:
    """Returns the command lines of processes that hold a marker."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended
    return [line for line in lines if marker in line]


def test_an_action_has_its_output_its_exit_code_and_its_environment_however_large(worker: Worker) -> None:
    large = {f"VARIABLE_{number}": f"{number}=" + "é" * 5000 for number in range(100)}
    count = "$(env | grep -c -e ^VARIABLE -e ^FINETUNE)"
    script = f'echo out; echo err >&2; printf "%s\n" "$VARIABLE_99" "$2" "{count}"; exit 7'
    action = worker.action("sh", "-c", script, "sh", "a b", "*", variables=large)
    assert (action.end(), action.stderr) == (7, "err\n")
    assert action.stdout == f"out\n{large['VARIABLE_99']}\n*\n100\n"
    assert not action.report.exists()
    assert worker.action("sh", "-c", "kill -9 $$").end() == 128 + 9
    missing = worker.action("no-such-program")
    assert missing.end() != 0 and "no-such-program: No such file" in missing.stderr


def test_folders_and_files_without_permissions_come_back(worker: Worker) -> None:
    script = r"""
        mkdir -p a/b && touch a/b/c && mkfifo a/d && ln -s /etc a/e && ln -s ../../b a/f && chmod 0 a/b/c a/b a
        name="$(printf 'x\ny\377')"
        mkdir "$name" && touch "$name/$(printf '\n\033[2J')" && chmod 0 "$name"/* "$name"
        chmod 500 . ..
    """
    action = worker.action("sh", "-c", script)
    etc = Path("/etc").stat()
    assert (action.end(), action.stderr) == (0, "")
    assert Path("/etc").stat() == etc
    assert worker.as_worker("cat", action.folder / "work/a/b/c", check=False).returncode == 0
    action.check_left_behind()


def test_paths_longer_than_any_call_takes_come_back(worker: Worker) -> None:
    script = "import os\nfor _ in range(200):\n os.mkdir('x' * 100)\n os.chdir('x' * 100)\nos.mkdir('locked', 0)\n"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))  # less than the folders in each other
    try:
        action = worker.action(PYTHON, "-IS", "-c", script)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (action.end(), action.stderr) == (0, "")
    action.check_left_behind()


def test_nothing_that_comes_back_runs_as_its_owner_or_can_be_written_by_others(worker: Worker) -> None:
    # The one that its owner cannot read gets that permission.
    script = "cp /bin/true a; cp a b; chmod 4755 a; chmod 6111 b; touch c; chmod 666 c; mkdir d; chmod 3777 d"
    action = worker.action("sh", "-c", script)
    assert (action.end(), action.stderr) == (0, "")
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in (action.folder / "work").iterdir()}
    assert modes == {"a": "0o755", "b": "0o511", "c": "0o644", "d": "0o1755", "inputs": "0o755"}
    action.check_left_behind()


def test_at_the_time_limit_the_whole_tree_ends_and_the_output_comes_back(worker: Worker) -> None:
    marker = f"9876.{time.monotonic_ns()}"
    # Four processes: one that ignores SIGTERM, a daemon in a session of its own, and their parents.
    script = f"""
        echo it hangs here
        (trap "" TERM; sleep {marker} & wait; sleep {marker}) &
        (setsid sleep {marker} &)
        trap "echo SIGTERM arrived" TERM
        mkdir locked; chmod 0 locked
        while :; do sleep {marker} & wait; done
    """
    action = worker.timed_out("sh", "-c", script, shows="SIGTERM arrived")
    assert action.stdout == "it hangs here\nSIGTERM arrived\n"
    assert re.fullmatch(
        r"run_action: the time limit of (\S+) s is over: SIGTERM, and SIGKILL after \1 s\n", action.stderr
    )
    assert json.loads(action.report.read_text()) == {"failure": "timeout"}
    assert running(marker) == []
    action.check_left_behind()


def test_a_training_in_a_shell_has_the_grace_to_save_its_state(worker: Worker) -> None:
    training = "trap 'sleep 0.1; echo saved > checkpoint; exit 3' TERM; echo trains; while :; do sleep 0.02; done"
    # The first shell has no trap: SIGTERM would end it, and everything with it.
    action = worker.timed_out("sh", "-c", 'sh -c "$1"; echo "it ended with $?"', "sh", training, shows="ended")
    assert action.stdout == "trains\nit ended with 3\n"
    assert (action.folder / "work" / "checkpoint").read_text() == "saved\n"


def test_output_without_end_is_read_to_the_time_limit(sandboxed: Worker) -> None:
    action = sandboxed.timed_out(
        "sh", "-c", "yes output & yes errors | head -c 100000 >&2; wait", shows="output\n" * 10**5
    )
    assert len(action.stderr) > 10**5 and "run_action: the time limit" in action.stderr
    assert action.report.exists()


def test_a_daemon_ends_with_its_action(worker: Worker) -> None:
    marker = f"9876.{time.monotonic_ns()}"
    action = worker.action("sh", "-c", f"(setsid sh -c 'trap \"\" TERM HUP; sleep {marker}; :' &); sleep 0.1; exit 4")
    assert action.end() == 4
    assert running(marker) == []


def test_processes_that_fork_and_end_again_and_again_end_with_their_action(worker: Worker) -> None:
    marker = f"9876.{time.monotonic_ns()}"
    # None of them lives for long, and each is in a session of its own.
    script = """
import os, time
end = time.monotonic() + 25
if os.fork() == 0:
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        os.setsid()
"""
    action = worker.action(PYTHON, "-IS", "-c", script, marker)
    assert (action.end(), action.stderr) == (0, "")
    assert running(marker) == []
    action.check_left_behind()


def test_a_tree_that_grows_ends_with_its_action(worker: Worker) -> None:
    marker = f"9876.{time.monotonic_ns()}"
    script = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_NPROC, (40, 40))
end = time.monotonic() + 25
while time.monotonic() < end:
    try:
        os.fork()
    except OSError:
        pass
"""
    action = worker.timed_out(PYTHON, "-IS", "-c", script, marker)
    assert action.report.exists() and running(marker) == []
    action.check_left_behind()


def test_an_action_is_not_in_the_process_group_of_nativelink(worker: Worker) -> None:
    # `kill 0` in a script reaches all of its group.
    action = worker.action("sh", "-c", "kill -TERM 0; sleep 20")
    assert (action.end(), action.stderr) == (128 + 15, "")


def test_an_action_that_nativelink_kills_ends_whole(worker: Worker) -> None:
    marker = f"9876.{time.monotonic_ns()}"
    action = worker.action("sh", "-c", f"mkdir locked; chmod 0 locked; (setsid sleep {marker} &); sleep {marker}")
    wait_until(lambda: sum(line.startswith("sleep") for line in running(marker)) == 2)
    action.process.kill()
    action.end()
    assert running(marker) == []
    assert "the worker ends this action" in action.stderr
    action.check_left_behind()


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_action_that_changes_an_input_does_not_change_the_store(worker: Worker) -> None:
    script = """
        cat inputs/input; stat -c %Y inputs/input
        chmod u+w inputs/input; echo changed > inputs/input
        rm -f inputs/input; echo changed > inputs/input; cat inputs/input
    """
    modified = worker.stored.stat().st_mtime_ns // 10**9
    action = worker.action("sh", "-c", script)
    assert (action.end(), action.stdout) == (0, f"stored{modified}\nchanged\n")
    assert worker.stored.read_text() == "stored"
    status = worker.stored.stat()
    assert (status.st_mode & 0o777, status.st_nlink) == (0o555, 1)
    action.check_left_behind()


def test_an_action_in_namespaces_reaches_nothing_but_its_folder(sandboxed: Worker) -> None:
    (sandboxed.root / "work" / "neighbour").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"""
            (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null && echo network
            for folder in /proc/[0-9]*; do read -r _ name _ < $folder/stat; echo "$name"; done | sort | uniq
            ls {sandboxed.root} {sandboxed.root}/work
            cat /etc/passwd 2> /dev/null
            for folder in / /usr/bin /etc /run /var/tmp {sandboxed.root} {sandboxed.root}/work; do
              touch $folder/x 2> /dev/null && echo "writes $folder"
            done
            touch ../x x ~/y $TMPDIR/z /dev/shm/x && echo "writes its own, and $TMPDIR"
            unshare --user true 2> /dev/null && echo user namespace
            unshare --map-root-user --mount true 2> /dev/null && echo mounts
            kill -0 {os.getpid()} 2> /dev/null && echo signals
            read -r _ state < <(grep NoNewPrivs /proc/self/status); echo "no new privileges: $state"
        """
        action = sandboxed.action("bash", "-c", script)
        action.end()
    name = action.folder.name
    expected = ["(bash)", "(bwrap)", f"{sandboxed.root}:", "work", "", f"{sandboxed.root}/work:", name]
    seen = [line for line in action.stdout.splitlines() if line not in ("(sort)", "(uniq)")]
    assert (seen, action.stderr) == (
        [*expected, "writes its own, and /tmp", "no new privileges: 1"],
        "",
    )


def test_doctor_tells_actions_in_namespaces_from_others(worker: Worker) -> None:
    action = worker.action("bash", "-c", f"mv inputs/input {isolation._INPUT}; {isolation._PROBE}")
    action.end()
    finding = isolation.isolation_finding(action.stdout.splitlines())
    is_isolated = "namespaces 1" in (worker.root / "isolation").read_text()
    assert finding.level == ("ok" if is_isolated else "warning"), finding
    assert "its inputs" not in finding.symptom
    assert worker.stored.read_text() == "stored"


def test_an_action_has_a_network_of_its_own(sandboxed: Worker) -> None:
    script = (
        "import socket as s; a = s.create_server(('127.0.0.1', 0)); s.create_connection(a.getsockname()); print('ok')"
    )
    action = sandboxed.action(PYTHON, "-IS", "-c", script)
    assert (action.end(), action.stdout, action.stderr) == (0, "ok\n", "")


def test_libraries_that_an_action_names_are_loaded_by_it_alone(worker: Worker) -> None:
    # The linker of each program that reads the variable complains.
    variables = {"LD_PRELOAD": "/no/such/library.so", "PYTHONHOME": "/no/such", "LC_ALL": "xx"}
    action = worker.action("sh", "-c", ":", variables=variables)
    assert action.end() == 0
    of_the_tests = bool(worker.prefix) + (0 if worker.is_static else 2)  # setpriv; sh and env in place of busybox
    assert action.stderr.count("/no/such/library.so") == 1 + of_the_tests, action.stderr


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("FOLDER", "{root}/store", "FINETUNE_ACTION_FOLDER is '{root}/store', and not the folder of an action in"),
        ("FOLDER", "{root}/work/..", "and not the folder of an action in"),
        ("FOLDER", "", "FINETUNE_ACTION_FOLDER is '', and not the folder of an action in"),
        ("FOLDER", "{root}/work/neighbour", "outside of its folder {root}/work/neighbour"),
        ("TIME_LIMIT_MS", "1e9", "FINETUNE_ACTION_TIME_LIMIT_MS is '1e9', and not a number of milliseconds"),
        ("TIME_LIMIT_MS", "-1", "FINETUNE_ACTION_TIME_LIMIT_MS is '-1', and not a number of milliseconds"),
    ],
)
def test_variables_that_an_action_sets_itself_are_not_trusted(
    make_worker: Callable[[str], Worker], variable: str, value: str, sentence: str
) -> None:
    worker = make_worker("root" if can_change_users() else "user")
    worker.start()
    (worker.root / "work" / "neighbour").mkdir()
    owners = [path.stat().st_uid for path in sorted(worker.root.rglob("*")) if "action-" not in str(path)]
    variables = {f"FINETUNE_ACTION_{variable}": value.format(root=worker.root)}
    action = worker.action("sh", "-c", "echo ran", variables=variables)
    assert (action.end(), action.stdout) == (125, "")
    assert sentence.format(root=worker.root) in action.stderr
    assert [path.stat().st_uid for path in sorted(worker.root.rglob("*")) if "action-" not in str(path)] == owners


@pytest.mark.parametrize("limit", ["9" * 20, "9" * 5000])
def test_no_action_asks_for_more_time_than_the_workers_config_allows(
    make_worker: Callable[[str], Worker], limit: str
) -> None:
    worker = make_worker("root" if can_change_users() else "user")
    worker.start()
    worker.pretend("longest", 0.2)
    action = worker.action("sleep", "20", variables={"FINETUNE_ACTION_TIME_LIMIT_MS": limit})
    assert action.end() == 124 and "the time limit of 0.2 s is over" in action.stderr


def test_a_start_imports_no_python_beside_os(make_worker: Callable[[str], Worker]) -> None:
    worker = make_worker("root" if can_change_users() else "user")
    # Process 1 has not started it.
    action = worker.as_worker(PYTHON, "-IS", "-X", "importtime", worker.program, "action", worker.root, "1")
    assert action.returncode == 125
    imported = {line.rpartition("|")[2].strip() for line in action.stderr.splitlines() if "import time:" in line}
    assert {"os", "_signal"} <= imported
    assert not imported & {"__future__", "ctypes", "enum", "functools", "re", "signal", "struct", "typing", "warnings"}


def test_a_report_outside_of_the_actions_folder_is_not_written(worker: Worker) -> None:
    elsewhere = worker.root / "store" / "report"
    action = worker.action("sleep", "9", seconds=0.1, variables={"FINETUNE_ACTION_REPORT": str(elsewhere)})
    assert (action.end(), elsewhere.exists()) == (124, False)
    assert "which is not in the action's folder" in action.stderr


def test_more_arguments_than_bubblewrap_takes_are_refused(sandboxed: Worker) -> None:
    action = sandboxed.action("true", *["x"] * 9000)
    assert action.end() == 125 and "and bubblewrap takes 9000" in action.stderr
    action.check_left_behind()


def test_a_worker_frees_at_its_start_what_a_crash_left_locked(worker: Worker) -> None:
    worker.as_worker("sh", "-c", 'mkdir -p "$1/a/b"; chmod 0 "$1/a/b" "$1/a"', "sh", worker.root / "work", check=True)
    worker.start()
    worker.as_worker("rm", "-r", worker.root / "work", check=True)


def test_root_without_capabilities_does_not_start(make_worker: Callable[[str], Worker]) -> None:
    worker = make_worker("root")
    start: list[str | Path] = [PYTHON, "-IS", worker.program, "start", worker.root]
    done = worker.as_worker("setpriv", "--bounding-set=-chown,-kill", *start, check=False)
    assert (done.returncode, done.stderr) == (
        125,
        "run_action: root without the capabilities CHOWN, KILL cannot run actions as another user: add them, or run "
        "the worker as user 10001\n",
    )


# seccomp_worker.json, applied as docker and Kubernetes do ------------------------------------------------------------


def apply_profile(*, without: str | None = None) -> None:
    """Loads the profile into this process, by libseccomp."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    profile = json.loads((DOCKER / "seccomp_worker.json").read_text())
    actions = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
    comparisons = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
    rules = profile["syscalls"]
    if without == "clone":  # docker's own rule: without the flags of namespaces
        flags = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        rules = [*rules, {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [flags]}]
    assert (profile["defaultAction"], profile["architectures"]) == ("SCMP_ACT_ERRNO", ["SCMP_ARCH_X86_64"])
    context = ctypes.c_void_p(library.seccomp_init(actions["SCMP_ACT_ERRNO"] | profile["defaultErrnoRet"]))

    class Comparison(ctypes.Structure):
        _fields_ = (("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))

    for rule in rules:
        arguments = [
            Comparison(each["index"], comparisons[each["op"]], each["value"], each.get("valueTwo", 0))
            for each in rule.get("args", ())
        ]
        action = actions[rule["action"]] | rule.get("errnoRet", 0)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            # A runtime passes over a name that its libseccomp does not know yet.
            if number >= 0 and (name != without or rule is not rules[0]):
                array = (Comparison * 1)(*arguments)
                assert library.seccomp_rule_add_array(context, action, number, len(arguments), array) == 0, name
    assert library.seccomp_load(context) == 0


@pytest.mark.parametrize("user", ["root", "user"])
def test_bubblewrap_works_under_the_workers_seccomp_profile(user: str, make_worker: Callable[[str], Worker]) -> None:
    worker = make_worker(user)
    if "namespaces of their own" not in (said := worker.start()):
        pytest.skip(f"namespaces are refused here: {said}")
    assert "namespaces of their own" in worker.start(preexec_fn=apply_profile)


@pytest.mark.parametrize("call", NEEDED_BY_BUBBLEWRAP)
def test_every_call_that_the_profile_adds_to_dockers_is_needed(call: str, make_worker: Callable[[str], Worker]) -> None:
    worker = make_worker("user")
    said = worker.start(preexec_fn=lambda: apply_profile(without=call))
    assert "No namespaces" in said and "docker/seccomp_worker.json allows them" in said
    # The worker goes on with what is left.
    action = worker.action("sh", "-c", "chmod u+w inputs/input; echo changed > inputs/input; cat inputs/input")
    assert (action.end(), action.stdout, worker.stored.read_text()) == (0, "changed\n", "stored")


def test_the_profile_refuses_what_nothing_in_a_worker_needs() -> None:
    profile = json.loads((DOCKER / "seccomp_worker.json").read_text())
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert set(NEEDED_BY_BUBBLEWRAP) <= allowed
    refused = {
        "setns",
        "sethostname",
        "clone3",
        "bpf",
        "ptrace_kernel",
        "keyctl",
        "io_uring_setup",
        "fsmount",
        "init_module",
    }
    assert not refused & allowed
