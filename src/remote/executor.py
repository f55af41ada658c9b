"""A remote executor on this machine: bazel run //src/remote:executor -- --help

A real server of the remote execution API on loopback, with CAS, action cache, execution in the pinned image and a sink
for build events. It shows how NativeLink will treat a build, without an account, docker or a second machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc

from src.remote.admission import Offer
from src.remote.build_events import BuildEventSink
from src.remote.casd import HOST_FOLDERS, Casd, CasdSettings
from src.remote.execution_platform import read_platform
from src.remote.gateway import NO_SIZE_LIMIT, Door, Gateway
from src.remote.image_server import ImageServer
from src.remote.loopback_certificate import Certificate, make_certificate
from src.training.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of

DEFAULT_PORT = 8980
KEY_HEADER = "x-nativelink-api-key"
# Each waiting action holds a thread.
_THREADS = 128
_LOOK_SECONDS = 0.5

log = logging.getLogger("finetune.executor")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for on the command line; the key comes from the environment."""

    port: int
    slots: int
    image: str
    folder: Path
    state_dir: Path
    tls: bool
    api_key: str | None
    queue_strangers: bool
    idle_minutes: float
    cache_gb: float
    ready_file: Path | None


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("executor", lambda: serve(parse(arguments)), debug="--debug" in arguments)


def parse(arguments: list[str]) -> Settings:
    """Reads the command line.

    Raises:
        RequestError: a flag is wrong.
    """
    given = vars(_parser().parse_args(arguments))
    if given["slots"] < 1:
        raise RequestError("--slots has to be at least 1")
    key = os.environ.get("NATIVELINK_API_KEY", "") if given.pop("demand_key") else None
    if key == "":
        raise RequestError("--demand_key needs the key in the environment: set NATIVELINK_API_KEY")
    folder = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY") or Path.cwd()) / ".executor"
    given["state_dir"] = (given["state_dir"] or folder / "state").absolute()
    del given["debug"]
    return Settings(folder=folder, api_key=key, **given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="executor",
        usage="bazel run //src/remote:executor -- [FLAGS]",
        description="A remote executor on this machine, on loopback. Ctrl-C ends it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free one")
    parser.add_argument("--slots", type=int, default=2, help="actions at once; more wait")
    parser.add_argument(
        *("--image",),
        choices=("pinned", "host"),
        default="pinned",
        help="pinned: actions run chrooted in the image of docker/platform.bzl; host: with this machine's programs",
    )
    parser.add_argument("--tls", action="store_true", help="serve TLS, with a certificate made for this start")
    parser.add_argument("--demand_key", action="store_true", help="demand the key in NATIVELINK_API_KEY of every call")
    parser.add_argument(
        *("--queue_strangers",),
        action="store_true",
        help="let an action for which no worker fits wait for ever, as NativeLink does, instead of refusing it",
    )
    parser.add_argument("--idle_minutes", type=float, default=120.0, help="end after this time without a call")
    parser.add_argument("--cache_gb", type=float, default=20.0, help="drop old blobs above this size")
    parser.add_argument("--state_dir", type=Path, help="where its files go; .executor/state if not given")
    parser.add_argument("--ready_file", type=Path, help="a file to write the port to, once it serves")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def serve(settings: Settings) -> int:
    """Serves until Ctrl-C, SIGTERM or the idle time; returns the exit code.

    Raises:
        RequestError: it cannot be served as asked.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if not (settings.folder / "buildbox" / "buildbox-casd").is_file():
        raise RequestError("the executor's programs are not here: run ./setup.sh --executor")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    images = _image_server(settings)
    casd = Casd(_casd_settings(settings))
    upstream = grpc.insecure_channel(f"unix:{settings.state_dir / 'casd.sock'}", options=NO_SIZE_LIMIT)
    gateway = Gateway(
        upstream=upstream,
        offer=Offer(properties=read_platform().exec_properties, image=images.reference if images else None),
        door=Door(header=KEY_HEADER, key=settings.api_key),
        queue_strangers=settings.queue_strangers,
        own=BuildEventSink(settings.state_dir / "build_events").methods,
    )
    certificate = make_certificate(settings.state_dir / "tls") if settings.tls else None
    try:
        server, port = _listen(gateway, settings, certificate)
        _announce(settings, port=port, certificate=certificate)
        status = _wait(gateway, casd, stop, idle_seconds=settings.idle_minutes * 60)
        gateway.stopping.set()
        server.stop(grace=1).wait()
    finally:
        casd.stop()
        if images:
            images.stop()
    log.info("executor: ended")
    return status


def _image_server(settings: Settings) -> ImageServer | None:
    if settings.image == "host":
        return None
    try:
        server = ImageServer(settings.folder / "image")
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the pinned image is not here ({error}): run ./setup.sh --executor, or take --image host"
        ) from error
    server.start()
    return server


def _casd_settings(settings: Settings) -> CasdSettings:
    # A Python of one's own may lie outside of the system's folders.
    own = [Path(sys.prefix), Path(sys.base_prefix)]
    folders = [Path(name) for name in HOST_FOLDERS if Path(name).exists()] + own if settings.image == "host" else []
    return CasdSettings(
        programs=settings.folder / "buildbox",
        state=settings.state_dir,
        slots=settings.slots,
        bind_mounts=folders,
        cache_bytes=int(settings.cache_gb * 1e9),
    )


def _listen(gateway: Gateway, settings: Settings, certificate: Certificate | None) -> tuple[grpc.Server, int]:
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        handlers=[gateway],
        # Two executors on one port would each get some of the calls.
        options=[*NO_SIZE_LIMIT, ("grpc.so_reuseport", 0)],
    )
    address = f"127.0.0.1:{settings.port}"
    try:
        port = server.add_secure_port(address, certificate.credentials) if certificate else _insecure(server, address)
    except RuntimeError as error:
        raise RequestError(f"port {settings.port} is taken: end what listens there, or name another --port") from error
    server.start()
    return server, port


def _insecure(server: grpc.Server, address: str) -> int:
    return int(server.add_insecure_port(address))


def _announce(settings: Settings, *, port: int, certificate: Certificate | None) -> None:
    endpoint = f"{'grpcs' if certificate else 'grpc'}://127.0.0.1:{port}"
    lines = [f"executor: serves {endpoint}: {settings.slots} actions at once, image {settings.image}"]
    if (port, certificate, settings.api_key) == (DEFAULT_PORT, None, None):
        lines.append("  bazel test --config=local-executor //src/training:training_test")
    else:
        flags = [f"--remote_executor={endpoint}", f"--bes_backend={endpoint}"]
        flags += [f"--tls_certificate={certificate.path}"] if certificate else []
        # The key itself is not printed: a terminal's history is read by others.
        flags += [f'--remote_header="{KEY_HEADER}=$NATIVELINK_API_KEY"'] if settings.api_key else []
        lines.append(f"  bazel test --config=local-executor {' '.join(flags)} //src/training:training_test")
    log.info("\n".join(lines))
    sys.stdout.flush()
    if settings.ready_file is not None:
        partial = settings.ready_file.with_name(settings.ready_file.name + ".partial")
        partial.write_text(str(port), encoding="utf-8")
        partial.rename(settings.ready_file)


def _wait(gateway: Gateway, casd: Casd, stop: threading.Event, *, idle_seconds: float) -> int:
    while not stop.wait(_LOOK_SECONDS):
        if not casd.is_running():
            log.error("executor: buildbox-casd has ended: %s", casd.last_words())
            return EXIT_FAILED
        if gateway.idle_seconds() > idle_seconds:
            log.info("executor: nobody has called for %g minutes", idle_seconds / 60)
            return EXIT_DONE
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
