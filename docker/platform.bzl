"""The execution platform, in one place: what every remote action requests and every worker offers.

docker/BUILD makes its platform() from it and src/remote/nativelink/docker_files.py the worker configs and
compose.yaml; Python reads it with src/remote/config/execution_platform.py. So it holds only literals.
"""

# Sent with each remote action. A scheduler compares them with what its workers offer, byte for byte, and never reports
# a mismatch: the action queues forever.
EXEC_PROPERTIES = {
    "ISA": "x86-64",
    "OSFamily": "linux",
    # Written by src/remote/nativelink/docker_files.py: the image's name and the digest of its inputs, so that a worker
    # of an older image cannot match; or a published image by its own digest (--published NAME@DIGEST).
    "container-image": "docker://finetune-repo-executor:inputs-00c5f8376319b830",
    # What an action reserves and a worker has: one training run for each worker.
    "cpu_count": "2",
}

EXECUTOR_IMAGE = {
    # debian:bookworm-slim of 2026-01-12, all architectures. Pinned by this digest in grafana/mcp-grafana, Dockerfile.
    "base": "debian:bookworm-20260112-slim@sha256:56ff6d36d4eb3db13a741b342ec466f121480b5edded42e4b7ee850ce7a418ee",
    # Written by src/remote/nativelink/docker_files.py: the digest of the image's inputs.
    "inputs_sha256": "00c5f8376319b83082066c0628d9adafa1c28a3f22aa9b8165503d5462892c0f",
    "name": "finetune-repo-executor",
    # The image's interpreter, which has the locked packages.
    "python": "/opt/finetune/bin/python",
}

# The worker refuses a longer request. A test of `size = "enormous"` requests 3600.
ACTION_TIME_LIMIT_SECONDS = 7200
