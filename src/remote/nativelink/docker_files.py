"""Keeps the files in docker/ in sync with docker/platform.bzl; run by tools/check.

.venv/bin/python -m src.remote.nativelink.docker_files [FLAG]

    without a flag           writes what differs
    --check                  exit 1 if anything differs
    --published NAME@DIGEST  makes actions request that published image, by its digest

NativeLink's configs are generated; in Dockerfile, compose.yaml and platform.bzl single values are replaced.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from src.remote.config.execution_platform import ExecutionPlatform, read_platform
from src.remote.nativelink.config import (
    COMPOSE,
    COMPOSE_TLS,
    DIALECTS,
    KUBERNETES,
    KUBERNETES_S3,
    Config,
    cas_config,
    service_configs,
)

ROOT = Path(__file__).parents[3]
PLATFORM = "docker/platform.bzl"
DOCKERFILE = "docker/Dockerfile"
COMPOSE_FILE = "docker/compose.yaml"
KUSTOMIZATIONS = ("docker/kubernetes/base/kustomization.yaml", "docker/kubernetes/seccomp/kustomization.yaml")
WORKER_MANIFEST = "docker/kubernetes/base/worker.yaml"
# Beyond the longest action: uploading its results, and stopping.
_DRAIN_SECONDS = 65

# The inputs of the image. The Dockerfile is hashed with its new base.
IMAGE_INPUTS = (
    DOCKERFILE,
    "docker/install_system.sh",
    "docker/install_packages.sh",
    "docker/omitted_packages.txt",
    "docker/omitted_files.txt",
    "docker/run_action",
    "docker/run_action.py",
    "docker/seccomp_worker.json",
    "bazel_requirements_lock.txt",
    "tools/torch_cuda_lock.txt",
)

_IMAGE_BY_DIGEST = re.compile(r"[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}")
_HEADER = (
    "// Generated from docker/platform.bzl by src/remote/nativelink/docker_files.py. "
    "The versions it was run with: docker/README.md.\n"
)


def wanted_files(root: Path, *, published: str | None = None) -> dict[str, str]:
    """Returns the wanted content of each file, by its path below the root.

    Args:
        root: of the repository.
        published: a reference by digest, used instead of the name derived from the image's inputs.

    Raises:
        ValueError: a file lacks the line whose value is to be replaced.
    """
    platform = read_platform(root / PLATFORM)
    dockerfile = _with(root, DOCKERFILE, r"^ARG BASE_IMAGE=(.*)$", platform.base_image)
    digest = inputs_digest(root, dockerfile=dockerfile)
    local = f"{platform.image_name}:inputs-{digest[:16]}"
    image = platform.container_image
    if published is not None:
        image = f"docker://{published}"
    elif digest != platform.inputs_sha256 or not _IMAGE_BY_DIGEST.fullmatch(image.removeprefix("docker://")):
        # A published image of other inputs is obsolete.
        image = f"docker://{local}"
    platform = _with_image(platform, image)
    compose = _with(root, COMPOSE_FILE, r"^x-executor-image: &executor-image (.*)$", local)
    compose = _replaced(compose, r"^x-cpu-count: &cpu-count (.*)$", f'"{platform.cpu_count}"', COMPOSE_FILE)
    compose = _replaced(compose, r"^ +BASE_IMAGE: \$\{BASE_IMAGE:-(.*)\}$", platform.base_image, COMPOSE_FILE)
    grace = platform.action_time_limit_seconds + _DRAIN_SECONDS
    compose = _replaced(compose, r"^    stop_grace_period: (\d+)s$", str(grace), COMPOSE_FILE)
    worker = _with(root, WORKER_MANIFEST, r"^      terminationGracePeriodSeconds: (\d+)$", str(grace))
    worker = re.sub(r'cpu: "\d+"', f'cpu: "{platform.cpu_count}"', worker)
    tag = local.rpartition(":")[2]
    kustomizations = {name: _with(root, name, r"^    newTag: (.*)$", tag) for name in KUSTOMIZATIONS}
    starlark = _with(root, PLATFORM, r'^    "inputs_sha256": "(.*)",$', digest)
    starlark = _replaced(starlark, r'^    "container-image": "(.*)",$', image, PLATFORM)
    values = {DOCKERFILE: dockerfile, COMPOSE_FILE: compose, PLATFORM: starlark}
    return values | {WORKER_MANIFEST: worker} | kustomizations | _nativelink_files(platform)


def inputs_digest(root: Path, *, dockerfile: str) -> str:
    """Returns the sha256 of the image's inputs, in hex."""
    digest = hashlib.sha256()
    for name in IMAGE_INPUTS:
        content = dockerfile.encode() if name == DOCKERFILE else (root / name).read_bytes()
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


def differing(root: Path, *, published: str | None = None) -> dict[str, str]:
    """Returns those of wanted_files that differ from the files on disk."""
    wanted = wanted_files(root, published=published)
    return {name: text for name, text in wanted.items() if _read(root / name) != text}


def _nativelink_files(platform: ExecutionPlatform) -> dict[str, str]:
    configs = {}
    for folder, surroundings in (("docker", COMPOSE), ("docker/tls", COMPOSE_TLS)):
        for dialect in DIALECTS:
            for service, config in service_configs(platform, dialect, surroundings).items():
                configs[f"{folder}/{dialect.name}-{service}.json5"] = config
    # v1.6.6 loads the older dialect too.
    for service, config in service_configs(platform, DIALECTS[0], KUBERNETES).items():
        configs[f"docker/kubernetes/base/{service}.json5"] = config
    configs["docker/kubernetes/overlays/s3/cas.json5"] = cas_config(DIALECTS[0], KUBERNETES_S3)
    return {name: _text(config) for name, config in configs.items()}


def _text(config: Config) -> str:
    return _HEADER + json.dumps(config, indent=2) + "\n"


def _with_image(platform: ExecutionPlatform, image: str) -> ExecutionPlatform:
    properties = MappingProxyType({**platform.exec_properties, "container-image": image})
    return dataclasses.replace(platform, exec_properties=properties)


def _with(root: Path, name: str, pattern: str, value: str) -> str:
    return _replaced((root / name).read_text(encoding="utf-8"), pattern, value, name)


def _replaced(text: str, pattern: str, value: str, name: str) -> str:
    """Replaces the pattern's only group by a value."""
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise ValueError(f"{name} has no line like {pattern}")
    return text[: match.start(1)] + value + text[match.end(1) :]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if anything differs")
    parser.add_argument("--published", metavar="NAME@DIGEST", help="the published image that actions request")
    options = parser.parse_args(arguments)
    if options.published is not None and not _IMAGE_BY_DIGEST.fullmatch(options.published):
        parser.error(
            f"--published must be NAME@sha256:DIGEST, not {options.published!r}: a tag can move, a digest cannot"
        )
    try:
        changes = differing(root, published=options.published)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"docker_files: {error}\n")
        return 1
    for name, text in changes.items():
        print(f"{name} {'differs from' if options.check else 'updated from'} {PLATFORM}")
        if not options.check:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
    if changes and options.check:
        print("run: .venv/bin/python -m src.remote.nativelink.docker_files")
    return 1 if changes and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
