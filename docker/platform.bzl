"""The execution platform, in one place: what every remote action asks for, and what the workers offer.

docker/BUILD makes its platform() of it, src/remote/nativelink/docker_files.py the worker configs and compose.yaml, and Python
reads it with src/remote/config/execution_platform.py. So only literals stand here.
"""

# Sent with each remote action. A scheduler compares them with what its workers offer, byte for byte, and never tells
# of a mismatch: the action queues for ever.
EXEC_PROPERTIES = {
    "ISA": "x86-64",
    "OSFamily": "linux",
    # Written by src/remote/nativelink/docker_files.py: the image's name and the digest of all that it is built from, so that a
    # worker of an older image cannot match; or a published image by its own digest (--published NAME@DIGEST).
    "container-image": "docker://finetune-repo-executor:inputs-d492f17c68b2d52f",
    # What an action reserves, and what a worker has: one training run a worker.
    "cpu_count": "2",
}

EXECUTOR_IMAGE = {
    # debian:bookworm-slim of 2026-01-12, all architectures. Pinned by this digest in grafana/mcp-grafana, Dockerfile.
    "base": "debian:bookworm-20260112-slim@sha256:56ff6d36d4eb3db13a741b342ec466f121480b5edded42e4b7ee850ce7a418ee",
    # Written by src/remote/nativelink/docker_files.py: the digest of the files that the image is built from.
    "inputs_sha256": "d492f17c68b2d52f360073808870000b5ae01abbda4a7ef532f5966424cbff90",
    "name": "finetune-repo-executor",
    # The interpreter in the image that has the locked packages.
    "python": "/opt/finetune/bin/python",
}

# A longer request is refused by the worker. `size = "enormous"` of a test asks for 3600.
ACTION_TIME_LIMIT_SECONDS = 7200
