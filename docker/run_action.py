#!/usr/bin/python3 -IS
"""Runs the actions of NativeLink's worker: isolated, within their time limit, and with nothing left behind.

run_action.py start ROOT                  once, when the worker starts: finds out what the machine allows, and says it
run_action.py action ROOT PID COMMAND...  runs an action, whose environment is that of process PID: docker/run_action

ROOT holds NativeLink's stores and, in ROOT/work, a folder for each action. NativeLink names that folder, the time limit
and the file for its report in the environment; an action can set the same variables, so nothing here trusts them.

As root (with CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID and SETUID) it runs the action as another user, to whom it gives
the folders of the action but not the input files, which are hard links to the worker's store. As any other user it
copies those inputs first. In both cases the action runs in bubblewrap, if user namespaces are allowed.

It is started for each action: what it imports, each action pays for.
"""

# The C modules alone: with the Python around them, and the enum that it uses, they take longer than all else here.
import _ctypes
import _signal as signal
import _struct as struct
import os
import stat
import sys
import time

# TYPE_CHECKING of `typing`, whose import costs 3 ms; that of `__future__` costs 0.5.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

ACTION_USER = 10001  # user and group
FOLDER, LIMIT, REPORT = "FINETUNE_ACTION_FOLDER", "FINETUNE_ACTION_TIME_LIMIT_MS", "FINETUNE_ACTION_REPORT"
GRACE, HIDDEN = "FINETUNE_ACTION_GRACE_SECONDS", "FINETUNE_ACTION_HIDDEN"
LONGEST = "FINETUNE_ACTION_LONGEST_SECONDS"
FINDINGS = "isolation"  # file in ROOT that `start` writes

# What actions have no business with: configuration, certificates and secrets of the worker, and its program.
_HIDDEN = ("/etc/nativelink", "/etc/nativelink.json5", "/run", "/usr/local/bin/nativelink")
_BWRAP = "/usr/bin/bwrap"
_MAX_ARGUMENTS = 9000  # of bubblewrap, for its own and the command's together
_STOP_SECONDS, _KILL_SECONDS = 30.0, 30.0
_POLL_SECONDS = 0.05
_MAX_SECONDS = 366 * 86400
_EXIT_TIMEOUT, _EXIT_REFUSED, _EXIT_NOT_STARTED = 124, 125, 127

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
# What nobody but an owner should be able to do with what root takes over: run it as its owner, or write to it.
_OF_OTHERS = stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RefusedError(Exception):
    """The action or the worker cannot be started; the message says why."""


class Isolation:
    """What `start` found out.

    Attributes:
        namespaces: whether bubblewrap works.
        own_proc: whether it can mount a /proc of its own. Container runtimes mask parts of theirs, which forbids it.
        hidden: paths that actions do not see.
        grace: seconds between SIGTERM and SIGKILL at the time limit.
        longest: seconds that no action exceeds, whatever time limit its environment names.
        reason: why there are no namespaces.
    """

    def __init__(
        self, *, namespaces: bool, own_proc: bool, hidden: list[str], grace: float, longest: float, reason: str = ""
    ) -> None:
        self.namespaces, self.own_proc, self.hidden = namespaces, own_proc, hidden
        self.grace, self.longest, self.reason = grace, longest, reason

    def as_text(self) -> str:
        """Returns the content of the file that each action reads."""
        lines = [f"namespaces {self.namespaces:d}", f"own_proc {self.own_proc:d}"]
        lines += [f"grace {self.grace}", f"longest {self.longest}"]
        return "\n".join([*lines, *(f"hidden {path}" for path in self.hidden)]) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Isolation":
        """Reads what as_text() wrote."""
        pairs = [line.partition(" ")[::2] for line in text.splitlines()]
        values = dict(pairs)
        return cls(
            namespaces=values["namespaces"] == "1",
            own_proc=values["own_proc"] == "1",
            hidden=[value for name, value in pairs if name == "hidden"],
            grace=float(values["grace"]),
            longest=float(values["longest"]),
        )


# What an action may do: bubblewrap -----------------------------------------------------------------------------------

# x86-64's numbers. bubblewrap needs some of these calls, which the worker's seccomp profile allows for it alone.
_REFUSED_CALLS = {
    "pivot_root": 155,
    "mount": 165,
    "umount2": 166,
    "unshare": 272,
    "setns": 308,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
}
_CLONE, _CLONE3 = 56, 435
_CLONE_NEW = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_AUDIT_ARCH_X86_64, _X32_BIT = 0xC000003E, 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def seccomp_filter() -> bytes:
    """Returns a BPF program that refuses new namespaces and mounts.

    clone3 passes its flags in memory, where no filter can read them: ENOSYS makes the C library use clone. So do calls
    of other architectures, whose numbers are different.
    """
    checks = [
        (_LOAD, _ARCHITECTURE, None),
        (_EQUAL, _AUDIT_ARCH_X86_64, (None, "ENOSYS")),
        (_LOAD, _NUMBER, None),
        (_AT_LEAST, _X32_BIT, ("ENOSYS", None)),
        (_EQUAL, _CLONE3, ("ENOSYS", None)),
        *((_EQUAL, number, ("EPERM", None)) for number in _REFUSED_CALLS.values()),
        (_EQUAL, _CLONE, (None, "ALLOW")),
        (_LOAD, _FIRST_ARGUMENT, None),
        (_ANY_BIT, _CLONE_NEW, ("EPERM", "ALLOW")),
    ]
    ends = {"ALLOW": _ALLOW, "EPERM": _EPERM, "ENOSYS": _ENOSYS}
    lines = {name: len(checks) + index for index, name in enumerate(ends)}
    program = b""
    for line, (code, value, jumps) in enumerate(checks):
        # A jump counts from the next instruction; 0 goes on with it.
        steps = [0 if name is None else lines[name] - line - 1 for name in jumps or (None, None)]
        program += struct.pack("=HBBI", code, *steps, value)
    return program + b"".join(struct.pack("=HBBI", _RETURN, 0, 0, value) for value in ends.values())


def _sandbox(
    isolation: Isolation, environment: dict[str, str], *, root: str, folder: str, working: str, seccomp: int
) -> list[str]:
    """Returns the command line of bubblewrap, without the command to run in it."""
    command = [_BWRAP, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev"]
    # Without an own /proc that of the container stays, read-only.
    command += ["--proc", "/proc"] if isolation.own_proc else []
    # /tmp is the only folder whose path is short enough for unix sockets (108 characters).
    command += ["--tmpfs", "/tmp"]
    for path in isolation.hidden:
        command += ["--tmpfs", path, "--remount-ro", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
    command += ["--tmpfs", root, "--bind", folder, folder, "--remount-ro", root, "--chdir", working]
    for name, value in environment.items():
        if _is_linkers(name):
            command += ["--setenv", name, value]
    return [*command, "--seccomp", str(seccomp), "--"]


def _is_linkers(name: str) -> bool:
    """Whether the dynamic linker reads a variable, which would make bubblewrap itself load libraries."""
    return name.startswith("LD_") or name == "GLIBC_TUNABLES"


def _start(
    command: list[str], environment: dict[str, str], *, isolation: Isolation, root: str, folder: str, working: str
) -> int:
    """Starts a command as the action's user, in bubblewrap if that works; returns the process's id."""
    if isolation.namespaces:
        seccomp, end = os.pipe()
        os.write(end, seccomp_filter())
        os.close(end)
        os.set_inheritable(seccomp, True)
        sandbox = _sandbox(isolation, environment, root=root, folder=folder, working=working, seccomp=seccomp)
        command = [*sandbox, *command]
        if len(command) > _MAX_ARGUMENTS:
            raise RefusedError(f"the action has {len(command)} arguments, and bubblewrap takes {_MAX_ARGUMENTS}")
        environment = {name: value for name, value in environment.items() if not _is_linkers(name)}
    child = os.fork()
    if child == 0:
        _become(command, environment, in_bubblewrap=isolation.namespaces)
    if isolation.namespaces:
        os.close(seccomp)
    return child


def _become(command: list[str], environment: dict[str, str], *, in_bubblewrap: bool) -> "NoReturn":
    try:
        if not in_bubblewrap:
            os.setsid()  # `kill 0` in a script would end NativeLink, if its user is the same
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(ACTION_USER, ACTION_USER, ACTION_USER)
            os.setresuid(ACTION_USER, ACTION_USER, ACTION_USER)
        _control(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        os.execvpe(command[0], command, environment)
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
    finally:
        os._exit(_EXIT_NOT_STARTED)


# Whose the files are -------------------------------------------------------------------------------------------------


def _walk(folder: str) -> "Iterator[tuple[int, os.DirEntry[str] | None]]":
    """Yields the open descriptor of a folder with None, then with each file in it; so for the folders below.

    No path is ever built and no descriptor is kept: what an action leaves may be deeper than any path can name, or than
    files can be open. Symbolic links are not followed.

    Raises:
        OSError: a folder was moved in the meantime.
    """
    opened = _open_folder(folder, None)
    above: list[tuple[os.stat_result, list[str]]] = []  # each folder on the way, and those in it that are to come
    try:
        while True:
            yield opened, None
            below = []
            with os.scandir(opened) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
                    else:
                        yield opened, entry
            above.append((os.fstat(opened), below))
            while not above[-1][1]:
                above.pop()
                if not above:
                    return
                opened = _exchange(opened, os.open("..", _OPEN_FOLDER, dir_fd=opened))
                if not os.path.samestat(os.fstat(opened), above[-1][0]):
                    raise OSError(f"a folder in {folder} was moved")
            opened = _exchange(opened, _open_folder(above[-1][1].pop(), opened))
    finally:
        os.close(opened)


def _exchange(old: int, new: int) -> int:
    os.close(old)
    return new


def _open_folder(name: str, parent: int | None) -> int:
    try:
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except PermissionError:  # of the worker's own user, and without permissions
        opened = os.open(name, _OPEN_FOLDER | os.O_PATH, dir_fd=parent)
        os.chmod(f"/proc/self/fd/{opened}", stat.S_IRWXU)
        os.close(opened)
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)


def hand_over(folder: str) -> None:
    """Makes an action's folders writable for the action, and its inputs not.

    Inputs are hard links to the worker's store. As root they stay root's. Otherwise the action, which is then the same
    user, gets copies.
    """
    is_root = os.geteuid() == 0
    for opened, file in _walk(folder):
        if is_root and file is None:
            os.fchown(opened, ACTION_USER, ACTION_USER)
        elif not is_root and file is not None and file.is_file(follow_symlinks=False):
            status = file.stat(follow_symlinks=False)
            if status.st_nlink > 1:
                _replace_by_copy(file.name, status, parent=opened)


def _replace_by_copy(name: str, status: os.stat_result, *, parent: int) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    os.unlink(name, dir_fd=parent)
    target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
    while os.sendfile(target, source, None, 1 << 30):
        pass
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.close(source)
    os.close(target)


def take_back(folder: str) -> None:
    """Makes everything in a folder the worker's again, which has to read outputs and remove folders.

    First the folder, so that no action of the same user exchanges a name in it while its files are changed.
    """
    is_root = os.geteuid() == 0
    for opened, file in _walk(folder):
        if file is not None:
            _take_back_file(file, parent=opened, is_root=is_root)
            continue
        if is_root:
            os.fchown(opened, 0, 0)
        mode = stat.S_IMODE(os.fstat(opened).st_mode)
        if (wanted := (mode | stat.S_IRWXU) & ~_OF_OTHERS) != mode:
            os.fchmod(opened, wanted)


def _take_back_file(file: os.DirEntry[str], *, parent: int, is_root: bool) -> None:
    status = file.stat(follow_symlinks=False)
    # The root user's files are inputs, in the store too.
    if is_root and status.st_uid != ACTION_USER:
        return
    if is_root:
        os.chown(file.name, 0, 0, dir_fd=parent, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode) and (wanted := (mode | stat.S_IRUSR) & ~_OF_OTHERS) != mode:
        os.chmod(file.name, wanted, dir_fd=parent)


# Processes -----------------------------------------------------------------------------------------------------------


def _control(option: int, value: int) -> None:
    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")
    if _ctypes.call_function(prctl, (option, value, 0, 0, 0)):
        raise OSError(f"prctl({option}) failed")


def _descendants(depth: int = 1) -> list[int]:
    """Returns what descends from this process, oldest first; with depth 3 all but children and grandchildren.

    Zombies are left out.
    """
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            text = _read_or_empty(f"/proc/{name}/stat")
            if text:  # the name, in brackets, may hold anything
                state, parent = text.rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(name))
    found, generation = [], [os.getpid()]
    while generation:
        generation = [child for pid in generation for child in sorted(children.get(pid, []))]
        depth -= 1
        if depth <= 0:
            found += generation
    return found


def _read_or_empty(path: str) -> str:
    """Returns the text of a file in /proc, empty if its process has ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended in the meantime


def _ignores_or_handles_term(pid: int) -> bool:
    lines = _read_or_empty(f"/proc/{pid}/status").splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn:", "SigCgt:"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


def _exit_code(child: int, *, seconds: float) -> int | None:
    """Waits for a child and reaps every other; returns its exit code as a shell counts, None if it goes on.

    Raises:
        InterruptedError: a signal other than SIGCHLD asks to stop.
    """
    end = time.monotonic() + seconds
    while True:
        while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
            if reaped[0] == child:
                code = os.waitstatus_to_exitcode(reaped[1])
                return code if code >= 0 else 128 - code
        received = signal.sigtimedwait(_AWAITED, max(0.0, end - time.monotonic()))
        if received is None:
            return None
        if received.si_signo != signal.SIGCHLD:
            raise InterruptedError


_AWAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def _terminate(child: int, *, in_bubblewrap: bool, grace: float) -> None:
    """Sends SIGTERM to what runs, and waits until it has ended or the grace is over.

    bubblewrap's own two processes would die at once, and everything in them. So would an action whose first process,
    often a shell, does not handle SIGTERM: that one is spared until its children have ended.
    """
    told: set[int] = set()
    end = time.monotonic() + grace
    while time.monotonic() < end:
        running = _descendants(3 if in_bubblewrap else 1)
        if len(running) > 1 and not _ignores_or_handles_term(running[0]):
            running = running[1:]
        for pid in running:
            if pid not in told:
                _signal(pid, signal.SIGTERM)
        told.update(running)
        if _exit_code(child, seconds=_POLL_SECONDS) is not None:
            return


def _stop_and_kill() -> None:
    """Kills what descends from this process, after all of it is stopped, so that nothing forks in the meantime."""
    end = time.monotonic() + _STOP_SECONDS
    stopped: set[int] = set()
    running = _children()
    while running and _reap() and time.monotonic() < end:
        for pid in running:
            _signal(pid, signal.SIGSTOP)
        stopped.update(running)
        # First those that are found at once: what forks and ends, again and again, lives for less than a ms each time.
        running = [pid for pid in _children() if pid not in stopped]
        running = running or [pid for pid in _descendants() if pid not in stopped]
    # At once: a stopped process whose parent ends is continued.
    for pid in _descendants() if stopped else ():
        _signal(pid, signal.SIGKILL)


def _kill_all() -> bool:
    """Ends everything that descends from this process; returns whether that succeeded.

    This process is their subreaper: what loses its parent is its child, and without children there is nothing left.
    """
    end = time.monotonic() + _KILL_SECONDS
    killed: list[int] = []
    while _reap():
        if time.monotonic() > end:
            return False
        children = _children()
        for pid in children:
            _signal(pid, signal.SIGKILL)
        if children == killed:
            signal.sigtimedwait({signal.SIGCHLD}, _POLL_SECONDS)
        killed = children
    return True


def _reap() -> bool:
    """Takes note of every child that has ended; returns whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _descendants()


# The two commands ----------------------------------------------------------------------------------------------------


def start(root: str) -> Isolation:
    """Finds out what the machine allows, writes it where each action reads it, and frees folders that a crash left."""
    is_root = os.geteuid() == 0
    if is_root:
        _check_capabilities()
        # The image's folder is the actions' user's, and Kubernetes' is everybody's: stores could be replaced.
        os.chown(root, 0, 0)
        os.chmod(root, 0o755)
    for name in os.listdir(root):
        if name in ("work", "probe"):
            take_back(os.path.join(root, name))
    hidden = [*_HIDDEN, *filter(None, os.environ.get(HIDDEN, "").split(":"))]
    hidden = [path for path in hidden if os.path.exists(path)]
    isolation = Isolation(
        namespaces=True,
        own_proc=True,
        hidden=hidden,
        grace=float(os.environ.get(GRACE, "10")),
        longest=float(os.environ.get(LONGEST) or _MAX_SECONDS),
    )
    if _fault(isolation, root):
        isolation.own_proc = False
        isolation.reason = _fault(isolation, root)
        isolation.namespaces = not isolation.reason
    path = os.path.join(root, FINDINGS)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(isolation.as_text())
    os.chmod(path + ".new", 0o644)
    os.replace(path + ".new", path)
    return isolation


def _check_capabilities() -> None:
    lines = _read_or_empty("/proc/self/status").splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise RefusedError(
            f"root without the capabilities {', '.join(missing)} cannot run actions as another user: "
            f"add them, or run the worker as user {ACTION_USER}"
        )


def _fault(isolation: Isolation, root: str) -> str:
    """Runs `true` as an action; returns what bubblewrap says if it fails."""
    folder = os.path.join(root, "probe")
    os.makedirs(folder, exist_ok=True)
    hand_over(folder)
    output, end = os.pipe()
    stderr = os.dup(2)
    os.dup2(end, 2)
    os.close(end)
    try:
        child = _start(["true"], {}, isolation=isolation, root=root, folder=folder, working=folder)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    with open(output, encoding="utf-8", errors="replace") as file:
        text = file.read().strip()
    take_back(folder)
    os.rmdir(folder)
    return "" if code == 0 else text or f"exit code {code}"


def description(isolation: Isolation) -> str:
    """Returns a sentence for the worker's log."""
    inputs = "their inputs are root's" if os.geteuid() == 0 else "their inputs are copies"
    user = ACTION_USER if os.geteuid() == 0 else os.geteuid()
    if not isolation.namespaces:
        return (
            f"actions run as user {user}, {inputs}. No namespaces ({isolation.reason}): they have the worker's network "
            "and see its processes. The seccomp profile of docker/seccomp_worker.json allows them"
        )
    proc = "their own" if isolation.own_proc else "the container's"
    return f"actions run as user {user} in namespaces of their own, without network, with {proc} /proc; {inputs}"


def run(root: str, parent: int, command: list[str]) -> int:
    """Runs an action; returns the exit code."""
    _control(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return _EXIT_REFUSED  # NativeLink has already killed it
    environment = _environment(parent)
    folder = _action_folder(root, environment.pop(FOLDER, ""))
    limit, report = environment.pop(LIMIT, ""), environment.pop(REPORT, "")
    working = os.getcwd()
    if not f"{working}/".startswith(f"{folder}/"):
        raise RefusedError(f"the action would start in {working}, outside of its folder {folder}")
    findings = _read_or_empty(os.path.join(root, FINDINGS))
    isolation = Isolation.from_text(findings) if findings else start(root)
    seconds = _seconds(limit, longest=isolation.longest)
    if isolation.namespaces:
        environment.setdefault("TMPDIR", "/tmp")
    _control(_PR_SET_CHILD_SUBREAPER, 1)
    _control(_PR_SET_NO_NEW_PRIVS, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    code: int | None = _EXIT_REFUSED
    try:
        hand_over(folder)
        places = {"root": root, "folder": folder, "working": working}
        child = _start(command, environment, isolation=isolation, **places)
        code = _exit_code(child, seconds=seconds)
        if code is None:
            _say(f"the time limit of {seconds:g} s is over: SIGTERM, and SIGKILL after {isolation.grace:g} s")
            _terminate(child, in_bubblewrap=isolation.namespaces, grace=isolation.grace)
    except InterruptedError:
        _say("the worker ends this action")
    finally:
        if not isolation.namespaces:  # with them the end of bubblewrap's first process is that of all
            _stop_and_kill()
        if _kill_all():
            take_back(folder)
        else:
            _say(f"processes of this action still run {_KILL_SECONDS:g} s after SIGKILL")
    if code is None:
        _write_report(report, folder)
        return _EXIT_TIMEOUT
    return code


def _environment(process: int) -> dict[str, str]:
    with open(f"/proc/{process}/environ", "rb") as file:
        pairs = [os.fsdecode(entry).partition("=") for entry in file.read().split(b"\0") if b"=" in entry]
    return {name: value for name, _, value in pairs}


def _action_folder(root: str, folder: str) -> str:
    parent, name = os.path.split(folder)
    if parent != os.path.join(root, "work") or name in ("", ".", "..") or not os.path.isdir(folder):
        raise RefusedError(f"{FOLDER} is {folder!r}, and not the folder of an action in {root}/work")
    return folder


def _seconds(milliseconds: str, *, longest: float) -> float:
    if not milliseconds.isdecimal():
        raise RefusedError(f"{LIMIT} is {milliseconds!r}, and not a number of milliseconds")
    return min(float(milliseconds) / 1000, longest)


def _write_report(path: str, folder: str) -> None:
    """Tells NativeLink that the action timed out. Its own time limit would return no output."""
    if os.path.dirname(path) != folder:
        _say(f"{REPORT} is {path!r}, which is not in the action's folder: the timeout is reported as a failure")
        return
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    os.write(opened, b'{"failure": "timeout"}')
    os.close(opened)


def _say(sentence: str) -> None:
    try:
        os.set_blocking(2, True)  # an action may have changed it
        os.write(2, os.fsencode(f"run_action: {sentence}\n"))
    except OSError:
        return  # NativeLink has ended, and nobody reads it


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    mode, root, *others = arguments
    root = os.path.realpath(root)
    try:
        if mode == "start":
            _say(description(start(root)))
            return 0
        return run(root, int(others[0]), others[1:])
    except (RefusedError, OSError) as error:
        _say(str(error))
        return _EXIT_REFUSED


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # there is nothing to flush, and Python's clean-up takes 2 ms
