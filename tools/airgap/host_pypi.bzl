"""@pypi of the air-gapped lane: the labels of pip.parse, the packages of the interpreter's environment."""

load(":host_python.bzl", "ENVIRON", "host_interpreter")

# The pins are an input: a test that stands on a package runs again when that package's version changes. They are also
# what its programs may import: declared_only/sitecustomize.py reads them.
_BUILD = """\
py_library(
    name = "{name}",
    data = ["declared.txt"],
    visibility = ["//visibility:public"],
)

alias(
    name = "pkg",
    actual = ":{name}",
    visibility = ["//visibility:public"],
)
"""

def _host_pypi_impl(rctx):
    python = host_interpreter(rctx)
    lock = rctx.path(rctx.attr.requirements_lock)
    checked = rctx.execute([python, "-I", rctx.path(rctx.attr._check), lock, rctx.path(rctx.attr._cuda_lock)])
    if checked.return_code:
        fail("%s differs from %s (run ./setup.sh): %s" % (python, lock.basename, checked.stderr.strip()))
    rctx.file("BUILD")
    for name, lines in json.decode(checked.stdout).items():
        rctx.file(name + "/BUILD", _BUILD.format(name = name))
        rctx.file(name + "/declared.txt", "\n".join(lines) + "\n")

host_pypi = repository_rule(
    implementation = _host_pypi_impl,
    attrs = {
        "requirements_lock": attr.label(
            allow_single_file = True,
            doc = "the lock file that pip.parse reads in MODULE.bazel",
            mandatory = True,
        ),
        "_check": attr.label(
            allow_single_file = True,
            default = "//tools/airgap:check_venv.py",
        ),
        "_cuda_lock": attr.label(
            allow_single_file = True,
            default = "//tools:torch_cuda_lock.txt",
        ),
    },
    environ = ENVIRON,
)
