"""A remote executor on this machine: bazel run //src/remote:executor -- --help

A real server of the remote execution API on loopback, with a CAS, an action cache, execution in the pinned image and a
build event service. It shows how NativeLink will treat a build, without an account, docker or a second machine.
"""

from __future__ import annotations

import logging
import platform
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

from src.cli.errors import EXIT_DONE, EXIT_FAILED, RequestError, exit_code_of
from src.cli.standard_output import OutputHandler
from src.remote.config.endpoints import KEY_HEADER
from src.remote.config.execution_platform import read_platform
from src.remote.image.inputs import STAMP, is_of_these_inputs
from src.remote.reapi.client import Endpoint, RemoteClient, TinyAction
from src.remote.reapi.forwarding import NO_SIZE_LIMIT
from src.remote.serving import loopback
from src.remote.serving.admission import ApiKeyCheck, Offer
from src.remote.serving.build_events import BuildEventSink
from src.remote.serving.casd import HOST_FOLDERS, Casd, CasdSettings
from src.remote.serving.certificate import Certificate, make_certificate
from src.remote.serving.fuse_mounts import has_fuse
from src.remote.serving.gateway import Gateway
from src.remote.serving.image_registry import ImageRegistry
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
        RequestError: it cannot serve with these settings.
    """
    logging.basicConfig(level=logging.INFO, handlers=[OutputHandler()])
    if not (settings.folder / "buildbox" / "buildbox-casd").is_file():
        raise RequestError("the executor's programs are missing: run ./setup.sh --executor")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise RequestError("the executor runs only on Linux x86-64: see docs/remote.md for servers on other machines")
    loopback.check_port(settings.port, remedy="stop the program that listens there, or choose another --port")
    stop = loopback.stop_on_signals()
    registry = _image_registry(settings)
    casd = Casd(_casd_settings(settings))
    upstream = grpc.insecure_channel(f"unix:{settings.state_dir / 'casd.sock'}", options=NO_SIZE_LIMIT)
    gateway = Gateway(
        upstream=upstream,
        offer=Offer(properties=read_platform().exec_properties, image=registry.reference if registry else None),
        key_check=ApiKeyCheck(header=KEY_HEADER, key=settings.api_key),
        queue_unmatched=settings.queue_unmatched,
        local_methods=BuildEventSink(settings.state_dir / "build_events").methods,
    )
    certificate = make_certificate(settings.state_dir / "tls") if settings.tls else None
    try:
        credentials = certificate.credentials if certificate else None
        server, port = loopback.listen(gateway, port=settings.port, credentials=credentials)
        endpoint = _local_endpoint(settings, port=port, certificate=certificate)
        _run_trial_action(endpoint, stop)
        if not stop.is_set():
            _announce(settings, endpoint=endpoint, certificate=certificate)
        status = _wait(gateway, casd, stop, idle_seconds=settings.idle_minutes * 60)
        gateway.stopping.set()
        server.stop(grace=1).wait()
    finally:
        casd.stop()
        if registry:
            registry.stop()
    log.info("executor: stopped")
    return status


def _image_registry(settings: Settings) -> ImageRegistry | None:
    if settings.image == "host":
        return None
    image = settings.folder / "image"
    if not is_of_these_inputs(image):
        state = "of an older lock" if (image / STAMP).exists() else "missing"
        raise RequestError(f"the pinned image is {state}: run ./setup.sh --executor, or use --image host")
    try:
        registry = ImageRegistry(image, port=settings.port + 1 if settings.port else 0)
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the pinned image is damaged ({error}): remove {image} and run ./setup.sh --executor"
        ) from error
    registry.start()
    return registry


def _casd_settings(settings: Settings) -> CasdSettings:
    # Python may be installed outside the system's folders.
    python = [Path(sys.prefix), Path(sys.base_prefix)]
    folders = [Path(name) for name in HOST_FOLDERS if Path(name).exists()] + python if settings.image == "host" else []
    return CasdSettings(
        programs=settings.folder / "buildbox",
        state=settings.state_dir,
        slots=settings.slots,
        bind_mounts=folders,
        cache_bytes=int(settings.cache_gb * 1e9),
    )


def _local_endpoint(settings: Settings, *, port: int, certificate: Certificate | None) -> Endpoint:
    return Endpoint(
        url=f"{'grpcs' if certificate else 'grpc'}://127.0.0.1:{port}",
        headers={} if settings.api_key is None else {KEY_HEADER: settings.api_key},
        certificate=certificate.path.read_bytes() if certificate else None,
    )


def _run_trial_action(endpoint: Endpoint, stop: threading.Event) -> None:
    """Runs an empty action, which pulls the image into the cache and shows that actions can run here.

    Raises:
        RequestError: they cannot.
    """
    log.info("executor: starting; the first start with an image takes a minute")
    if not has_fuse():
        log.warning("executor: FUSE is not available (/dev/fuse, package fuse3): each action takes some seconds longer")
    client = RemoteClient(endpoint)
    action = TinyAction(arguments=("/bin/sh", "-c", ":"), properties=read_platform().exec_properties)
    with futures.ThreadPoolExecutor(1) as pool:
        trial = pool.submit(client.run, action, seconds=_TRIAL_SECONDS)
        while not trial.done() and not stop.wait(loopback.POLL_SECONDS):
            pass
        client.close()
    if stop.is_set():
        return
    if problem := trial.exception():
        raise RequestError(f"actions cannot run here: {problem}")
    if (outcome := trial.result()).exit_code:
        raise RequestError(f"actions cannot run here: {outcome.stderr.strip() or outcome.exit_code}")


def _announce(settings: Settings, *, endpoint: Endpoint, certificate: Certificate | None) -> None:
    lines = [f"executor: serving {endpoint.url}: {settings.slots} actions at once, image: {settings.image}"]
    is_open = certificate is None and settings.api_key is None
    if not is_open:
        lines += _configuration(settings, endpoint=endpoint, certificate=certificate)
    lines.append(f"  {_command(settings, endpoint=endpoint, is_open=is_open)}")
    log.info("\n".join(lines))
    if settings.ready_file is not None:
        partial = settings.ready_file.with_name(settings.ready_file.name + ".partial")
        partial.write_text(endpoint.url, encoding="utf-8")
        partial.rename(settings.ready_file)


def _command(settings: Settings, *, endpoint: Endpoint, is_open: bool) -> str:
    if settings.image == "pinned" and not is_open:
        return f"bazel test --config=remote {_TEST}"
    if not is_open:
        # --config=remote requests the image, whose Python this machine does not have.
        return "bazel run //src/remote:doctor"
    flags = ["--config=local-executor"]
    if settings.image == "host":
        flags = ["--spawn_strategy=remote", "--jobs=8"]
    if settings.image == "host" or endpoint.url != f"grpc://127.0.0.1:{DEFAULT_PORT}":
        flags.append(f"--remote_executor={endpoint.url}")
    return " ".join(["bazel test", *flags, _TEST])


def _configuration(settings: Settings, *, endpoint: Endpoint, certificate: Certificate | None) -> list[str]:
    """Returns the lines for .env: //src/remote:configure turns a key or a certificate into flags."""
    values = {"EXECUTOR": endpoint.url, "BES": endpoint.url}
    if certificate:
        values["TLS_CERTIFICATE"] = str(certificate.path)
    if settings.api_key:
        # Not the key itself: terminals keep their scrollback.
        values["API_KEY"] = "the key"
    return [
        "put into .env (restart the relay if one is running):",
        *(f"  NATIVELINK_{name}={value}" for name, value in values.items()),
        "then:",
        "  bazel run //src/remote:configure    # and follow its output",
    ]


def _wait(gateway: Gateway, casd: Casd, stop: threading.Event, *, idle_seconds: float) -> int:
    reason = loopback.wait(stop, gateway.activity, idle_seconds=idle_seconds, is_healthy=casd.is_running)
    if reason == "failed":
        log.error("executor: buildbox-casd failed: %s", casd.failure())
        return EXIT_FAILED
    if reason == "idle":
        log.info("executor: no call for %g minutes", idle_seconds / 60)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
