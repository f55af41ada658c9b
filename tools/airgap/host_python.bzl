"""Python toolchain of the air-gapped lane: the interpreter of .venv, or of AIRGAP_PYTHON.

Where //docker:executor is the execution platform it is the image's interpreter.
"""

load("//docker:platform.bzl", "EXECUTOR_IMAGE")

# Set by tools/bazel. The stamp changes whenever a package of the environment does.
ENVIRON = [
    "AIRGAP_PYTHON",
    "AIRGAP_STAMP",
]

_BUILD = """\
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(
    name = "py3_runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
    # The default, '#!/usr/bin/env python', fails on a plain Debian. The launcher needs no packages, so it may have the
    # interpreter that the environment was made from: its path is short and, unlike the checkout's, holds no spaces.
    stub_shebang = "#!{launcher}",
)

py_runtime_pair(
    name = "py_runtime_pair",
    py3_runtime = ":py3_runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":py_runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)

# For actions that run in the executor image: its own interpreter, which has the locked packages.
py_runtime(
    name = "executor_runtime",
    interpreter_path = "{executor_python}",
    python_version = "PY3",
    stub_shebang = "#!{executor_python}",
)

py_runtime_pair(
    name = "executor_runtime_pair",
    py3_runtime = ":executor_runtime",
)

toolchain(
    name = "executor_toolchain",
    exec_compatible_with = ["@//docker:executor_image"],
    toolchain = ":executor_runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def host_interpreter(rctx):
    """The path of the environment's interpreter.

    Args:
      rctx: the repository rule's context.

    Returns:
      a string.
    """
    python = rctx.os.environ.get("AIRGAP_PYTHON")
    if not python:
        fail("AIRGAP_PYTHON is not set: call `bazel`, which goes through tools/bazel, and not bazel-4")
    return python

def _host_python_impl(rctx):
    python = host_interpreter(rctx)
    found = rctx.execute([python, "-I", "-c", "import os, sys; print(os.path.realpath(sys.executable))"])
    if found.return_code:
        fail("%s does not run (run ./setup.sh): %s" % (python, found.stderr))
    rctx.file("BUILD", _BUILD.format(
        executor_python = EXECUTOR_IMAGE["python"],
        launcher = found.stdout.strip(),
        python = python,
    ))

host_python = repository_rule(
    implementation = _host_python_impl,
    configure = True,
    environ = ENVIRON,
    local = True,
)
