"""pytest_test(): a py_test whose files are run by pytest. The same on Bazel 4 and Bazel 8."""

load("@rules_python//python:py_test.bzl", "py_test")

_MAIN = "//tools:pytest_main.py"

def pytest_test(name, srcs, deps = [], data = [], args = [], **kwargs):
    """A test target whose srcs are run by pytest.

    Args:
      name: name of the target.
      srcs: the test files.
      deps: what they import; pytest itself is added.
      data: what they read.
      args: further arguments for pytest.
      **kwargs: as for py_test.
    """
    py_test(
        name = name,
        srcs = srcs + [_MAIN],
        args = ["$(rootpath %s)" % src for src in srcs] + args,
        data = data,
        main = _MAIN,
        deps = deps + ["@pypi//pytest"],
        **kwargs
    )
