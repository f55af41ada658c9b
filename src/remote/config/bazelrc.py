"""The flags of a --config in the repository's bazelrc files, read as Bazel reads them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from src.cli.errors import RequestError
from src.cli.parser import did_you_mean
from src.remote.config.endpoints import KEY_COMMENT, KEY_HEADER, UPSTREAM
from src.remote.reapi.client import Endpoint

_FILES = (".bazelrc", "user.bazelrc")
_COMMANDS = {"common", "build", "test"}
# The flags that BazelConfig's readers ask for: any other has no effect on what they find.
_READ = (
    *("remote_executor", "remote_cache", "bes_backend", "remote_instance_name", "remote_default_exec_properties"),
    *("remote_header", "remote_exec_header", "remote_cache_header"),
    *("tls_certificate", "tls_client_certificate", "tls_client_key"),
)


@dataclass(frozen=True, kw_only=True)
class BazelConfig:
    """The flags of one config, each name with its values in order.

    `is_relayed`: Bazel reaches the servers of --config=remote through //src/remote:relay, which adds the key.
    """

    name: str
    flags: dict[str, list[str]] = field(repr=False)
    key: str | None = field(default=None, repr=False)
    is_relayed: bool = False

    def last(self, flag: str) -> str | None:
        """Returns the last value of a flag, which is the effective one; None if it is empty or not set."""
        values = self.flags.get(flag)
        return values[-1] if values and values[-1] else None

    def pairs(self, flag: str) -> dict[str, str]:
        """Returns the values of a flag that accumulates NAME=VALUE."""
        split = (value.partition("=") for value in self.flags.get(flag, []))
        return {name: value for name, _, value in split}

    @property
    def has_key(self) -> bool:
        """Whether calls to the executor carry a key."""
        executor = self.endpoint("remote_executor")
        return executor is not None and KEY_HEADER in executor.headers

    def endpoint(self, flag: str) -> Endpoint | None:
        """Returns the server that a flag such as remote_executor names.

        Raises:
            RequestError: its certificate cannot be read, or the address is malformed.
        """
        url = self.last(flag)
        if url is None:
            return None
        url = url if ":/" in url else f"grpcs://{url}"
        if not url.startswith(("grpc://", "grpcs://")):
            raise RequestError(f"--{flag}={url}: only grpc:// and grpcs:// are supported")
        flag_of_service = "remote_exec_header" if flag == "remote_executor" else "remote_cache_header"
        headers = {
            name.lower(): value for name, value in (self.pairs("remote_header") | self.pairs(flag_of_service)).items()
        }
        if self.key is not None:
            headers.setdefault(KEY_HEADER, self.key)
        certificate, client = self.last("tls_certificate"), self.last("tls_client_certificate")
        client_key = self.last("tls_client_key")
        return Endpoint(
            url=url,
            headers=headers,
            certificate=None if certificate is None else _read(certificate),
            client_certificate=(_read(client), _read(client_key)) if client and client_key else None,
            instance=self.last("remote_instance_name") or "",
        )


def read_config(root: Path, name: str, *, overrides: list[str]) -> BazelConfig:
    """Reads a config of .bazelrc and user.bazelrc.

    Args:
        root: of the repository.
        name: the config.
        overrides: further flags, --NAME=VALUE, that take precedence.

    Raises:
        RequestError: there is no such config, or a further flag is malformed or has no effect.
    """
    lines = [line for file in _FILES for line in _lines(root / file)]
    flags: dict[str, list[str]] = {}
    for word in (word for line in lines if line[0] in _COMMANDS for word in line[1:]):
        _add(flags, word, lines, seen=())
    if not any(_is_of(line[0], name) for line in lines):
        raise RequestError(f"neither {_FILES[0]} nor {_FILES[1]} has a config {name}")
    _add(flags, f"--config={name}", lines, seen=())
    for word in overrides:
        if not word.startswith("--") or "=" not in word:
            raise RequestError(f"{word} is not a Bazel flag: write --NAME=VALUE")
        flag = word.removeprefix("--").partition("=")[0]
        if flag not in _READ:
            raise RequestError(f"--{flag} would have no effect{did_you_mean(flag, _READ)}: see --help")
        _add(flags, word, lines, seen=())
    is_relayed = name != UPSTREAM and any(_is_of(line[0], UPSTREAM) for line in lines)
    # With a relay Bazel's own calls carry no key: another program might listen on the relay's port.
    key = None if is_relayed else _key(root / _FILES[1])
    return BazelConfig(name=name, flags=flags, key=key, is_relayed=is_relayed)


def upstream_of(root: Path, config: BazelConfig) -> BazelConfig | None:
    """Returns the config of the servers behind //src/remote:relay; None if Bazel calls its servers directly."""
    return read_config(root, UPSTREAM, overrides=[]) if config.is_relayed and config.name == "remote" else None


def _add(flags: dict[str, list[str]], word: str, lines: list[list[str]], *, seen: tuple[str, ...]) -> None:
    flag, _, value = word.removeprefix("--").partition("=")
    if flag != "config":
        flags.setdefault(flag, []).append(value)
        return
    if value in seen:
        raise RequestError(f"the config {value} refers to itself")
    for line in lines:
        if _is_of(line[0], value):
            for inner in line[1:]:
                _add(flags, inner, lines, seen=(*seen, value))


def _is_of(command: str, config: str) -> bool:
    return command in {f"{each}:{config}" for each in _COMMANDS}


def _lines(path: Path) -> Iterator[list[str]]:
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def _key(path: Path) -> str | None:
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix(KEY_COMMENT).strip() for line in lines if line.startswith(KEY_COMMENT)), None)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"the certificate {path} cannot be read ({error.strerror})") from error
