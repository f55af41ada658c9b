"""@pypi of the online lane, and the executor image's interpreter. Bazel 4 never loads this file. Not yet run by Bazel 8.

With --config=image the packages are those of the executor image, as in the air-gapped lane: @pypi//NAME is then an empty
library, whose input is the lock.
"""

load("//docker:platform.bzl", "EXECUTOR_IMAGE")

_IN_IMAGE = Label("//docker:packages_in_image")

_PACKAGES = """\
load("@rules_python//python:py_library.bzl", "py_library")

py_library(
    name = "in_image",
    data = ["{lock}"],
    visibility = ["//:__subpackages__"],
)
"""

_PACKAGE = """\
alias(
    name = "{name}",
    actual = select({{
        "{in_image}": "//:in_image",
        "//conditions:default": "@{wheels}//{name}",
    }}),
    visibility = ["//visibility:public"],
)
"""

_PYTHON = """\
load("@rules_python//python:py_runtime.bzl", "py_runtime")
load("@rules_python//python:py_runtime_pair.bzl", "py_runtime_pair")

py_runtime(
    name = "py3_runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
    stub_shebang = "#!{python}",
)

py_runtime_pair(
    name = "py_runtime_pair",
    py3_runtime = ":py3_runtime",
)

toolchain(
    name = "toolchain",
    exec_compatible_with = ["{image}"],
    target_settings = ["{in_image}"],
    toolchain = ":py_runtime_pair",
    toolchain_type = "@rules_python//python:toolchain_type",
)
"""

def _locked_names(lock):
    """Returns the packages of a lock file as pip.parse spells them in labels."""
    names = [line.partition("==")[0] for line in lock.splitlines() if line[:1].isalnum() and "==" in line]
    return [name.partition("[")[0].lower().replace("-", "_").replace(".", "_") for name in names]

def _pypi_hub_impl(rctx):
    lock = rctx.attr.requirements_lock
    rctx.file("BUILD", _PACKAGES.format(lock = lock))
    for name in _locked_names(rctx.read(lock)):
        rctx.file(name + "/BUILD", _PACKAGE.format(
            name = name,
            in_image = _IN_IMAGE,
            wheels = rctx.attr.wheels,
        ))

pypi_hub = repository_rule(
    implementation = _pypi_hub_impl,
    attrs = {
        "requirements_lock": attr.label(
            allow_single_file = True,
            doc = "the lock file that pip.parse reads",
            mandatory = True,
        ),
        "wheels": attr.string(
            doc = "pip.parse's hub, as MODULE.bazel names it",
            mandatory = True,
        ),
    },
)

def _image_python_impl(rctx):
    rctx.file("BUILD", _PYTHON.format(
        image = Label("//docker:executor_image"),
        in_image = _IN_IMAGE,
        python = EXECUTOR_IMAGE["python"],
    ))

image_python = repository_rule(implementation = _image_python_impl)
