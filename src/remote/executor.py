"""A remote executor on this machine: bazel run //src/remote:executor -- --help

A real server of the remote execution API on loopback, with CAS, action cache, execution in the pinned image and a sink
for build events. It shows how NativeLink will treat a build, without an account, docker or a second machine.
"""

from __future__ import annotations

import logging
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of
from src.remote.config.endpoints import KEY_HEADER
from src.remote.config.execution_platform import read_platform
from src.remote.image.inputs import STAMP, is_of_these_inputs
from src.remote.reapi.client import Endpoint, RemoteClient, TinyAction
from src.remote.reapi.forwarding import NO_SIZE_LIMIT
from src.remote.serving import loopback as loopback_server
from src.remote.serving.admission import Offer
from src.remote.serving.build_events import BuildEventSink
from src.remote.serving.casd import HOST_FOLDERS, Casd, CasdSettings
from src.remote.serving.certificate import Certificate, make_certificate
from src.remote.serving.fuse_mounts import has_fuse
from src.remote.serving.gateway import Door, Gateway
from src.remote.serving.image_server import ImageServer
from src.remote.serving.settings import DEFAULT_PORT, Settings, parse

_TRIAL_SECONDS = 600.0
_TEST = "//src/training:training_test"

log = logging.getLogger("finetune.executor")


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code_of("executor", lambda: serve(parse(arguments)), debug="--debug" in arguments)


def serve(settings: Settings) -> int:
    """Serves until Ctrl-C, SIGTERM or the idle time; returns the exit code.

    Raises:
        RequestError: it cannot be served as asked.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if not (settings.folder / "buildbox" / "buildbox-casd").is_file():
        raise RequestError("the executor's programs are not here: run ./setup.sh --executor")
    loopback_server.check_port(settings.port, remedy="end what listens there, or name another --port")
    stop = loopback_server.stop_on_signals()
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
        credentials = certificate.credentials if certificate else None
        server, port = loopback_server.listen(gateway, port=settings.port, credentials=credentials)
        own = _own_endpoint(settings, port=port, certificate=certificate)
        _try_an_action(own, stop)
        if not stop.is_set():
            _announce(settings, endpoint=own, certificate=certificate)
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
    image = settings.folder / "image"
    if not is_of_these_inputs(image):
        state = "of an older lock" if (image / STAMP).exists() else "not here"
        raise RequestError(f"the pinned image is {state}: run ./setup.sh --executor, or take --image host")
    try:
        server = ImageServer(image, port=settings.port + 1 if settings.port else 0)
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the pinned image is damaged ({error}): remove {image}, run ./setup.sh --executor"
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


def _own_endpoint(settings: Settings, *, port: int, certificate: Certificate | None) -> Endpoint:
    return Endpoint(
        url=f"{'grpcs' if certificate else 'grpc'}://127.0.0.1:{port}",
        headers={} if settings.api_key is None else {KEY_HEADER: settings.api_key},
        certificate=certificate.path.read_bytes() if certificate else None,
    )


def _try_an_action(endpoint: Endpoint, stop: threading.Event) -> None:
    """Runs an action that does nothing: it brings the image into the cache and shows that actions can run here.

    Raises:
        RequestError: they cannot.
    """
    log.info("executor: starting; the first start with an image takes a minute")
    if not has_fuse():
        log.warning("executor: there is no FUSE here (/dev/fuse, package fuse3): each action takes some seconds more")
    client = RemoteClient(endpoint)
    action = TinyAction(arguments=("/bin/sh", "-c", ":"), properties=read_platform().exec_properties)
    with futures.ThreadPoolExecutor(1) as pool:
        trial = pool.submit(client.run, action, seconds=_TRIAL_SECONDS)
        while not trial.done() and not stop.wait(loopback_server.LOOK_SECONDS):
            pass
        client.close()
    if stop.is_set():
        return
    if problem := trial.exception():
        raise RequestError(f"actions cannot run here: {problem}")
    if (outcome := trial.result()).exit_code:
        raise RequestError(f"actions cannot run here: {outcome.stderr.strip() or outcome.exit_code}")


def _announce(settings: Settings, *, endpoint: Endpoint, certificate: Certificate | None) -> None:
    lines = [f"executor: serves {endpoint.url}: {settings.slots} actions at once, image: {settings.image}"]
    is_open = certificate is None and settings.api_key is None
    if not is_open:
        lines += _configuration(settings, endpoint=endpoint, certificate=certificate)
    lines.append(f"  {_command(settings, endpoint=endpoint, is_open=is_open)}")
    log.info("\n".join(lines))
    sys.stdout.flush()
    if settings.ready_file is not None:
        partial = settings.ready_file.with_name(settings.ready_file.name + ".partial")
        partial.write_text(endpoint.url, encoding="utf-8")
        partial.rename(settings.ready_file)


def _command(settings: Settings, *, endpoint: Endpoint, is_open: bool) -> str:
    if settings.image == "pinned" and not is_open:
        return f"bazel test --config=remote {_TEST}"
    if not is_open:
        # --config=remote asks for the image, whose Python is not here.
        return "bazel run //src/remote:doctor"
    flags = ["--config=local-executor"]
    if settings.image == "host":
        flags = ["--spawn_strategy=remote", "--jobs=8"]
    if settings.image == "host" or endpoint.url != f"grpc://127.0.0.1:{DEFAULT_PORT}":
        flags.append(f"--remote_executor={endpoint.url}")
    return " ".join(["bazel test", *flags, _TEST])


def _configuration(settings: Settings, *, endpoint: Endpoint, certificate: Certificate | None) -> list[str]:
    """Says what goes into .env: a key or a certificate needs what //src/remote:configure makes of it."""
    given = {"EXECUTOR": endpoint.url, "BES": endpoint.url}
    if certificate:
        given["TLS_CERTIFICATE"] = str(certificate.path)
    if settings.api_key:
        # Not the key itself: terminals keep what they show.
        given["API_KEY"] = "the key"
    return [
        "in .env (start the relay again, if one was there already):",
        *(f"  NATIVELINK_{name}={value}" for name, value in given.items()),
        "then:",
        "  bazel run //src/remote:configure    # and what it says",
    ]


def _wait(gateway: Gateway, casd: Casd, stop: threading.Event, *, idle_seconds: float) -> int:
    ended = loopback_server.wait(stop, gateway.activity, idle_seconds=idle_seconds, is_well=casd.is_running)
    if ended == "failed":
        log.error("executor: buildbox-casd has ended: %s", casd.last_words())
        return EXIT_FAILED
    if ended == "idle":
        log.info("executor: nobody has called for %g minutes", idle_seconds / 60)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
