"""pypi_sdist(): the source distribution of a locked package, as the file @name//:sdist."""

_BUILD = """\
filegroup(
    name = "sdist",
    srcs = ["sdist.tar.gz"],
    visibility = ["//visibility:public"],
)
"""

def _interpreter(rctx):
    """The interpreter given, else that of the air-gapped lane, else the host's."""
    if rctx.attr.python:
        return rctx.path(rctx.attr.python)
    python = rctx.os.environ.get("AIRGAP_PYTHON") or rctx.which("python3")
    if not python:
        fail("there is no python3 on PATH to fetch the sdist of %s with" % rctx.attr.package)
    return python

def _pypi_sdist_impl(rctx):
    lock = rctx.path(rctx.attr.requirements_lock)
    fetched = rctx.execute(
        [
            _interpreter(rctx),
            "-B",  # no __pycache__ in the checkout
            rctx.path(rctx.attr._fetch),
            lock,
            rctx.attr.package,
            "sdist.tar.gz",
            "--have=%s/.venv/share/sdists" % lock.dirname,
        ],
        timeout = 300,
    )
    if fetched.return_code:
        fail(fetched.stderr.strip())
    rctx.file("BUILD", _BUILD)

pypi_sdist = repository_rule(
    implementation = _pypi_sdist_impl,
    attrs = {
        "package": attr.string(
            doc = "the package's name on PyPI",
            mandatory = True,
        ),
        "python": attr.label(
            allow_single_file = True,
            doc = "interpreter with pip; without it that of the air-gapped lane, else python3",
        ),
        "requirements_lock": attr.label(
            allow_single_file = True,
            doc = "holds the package's version and hashes",
            mandatory = True,
        ),
        "_fetch": attr.label(
            allow_single_file = True,
            default = "//tools:pypi_sdist.py",
        ),
    },
    environ = [
        "AIRGAP_PYTHON",
        "AIRGAP_STAMP",
    ],
)
