"""py_modules(): the Python of one room, one target a module. The same on Bazel 4 and Bazel 8."""

load("@rules_python//python:py_binary.bzl", "py_binary")
load("@rules_python//python:py_library.bzl", "py_library")
load("@rules_python//python:py_test.bzl", "py_test")
load("//src:layers.bzl", "LAYERS")

_PYTEST_MAIN = "//tools:pytest_main.py"

# buildifier: disable=unnamed-macro
def py_modules(
        modules = {},
        programs = {},
        tests = {},
        extra_deps = {},
        data = {},
        options = {},
        together = {},
        testonly = []):
    """One target for each module, program and test of a room.

    `modules`, `programs` and the deps of `tests` are written by tools/build_files.py out of the imports. All else is
    written by hand. A module may be used where src/layers.bzl says so.

    Args:
      modules: module -> what it imports.
      programs: module that is run -> what it imports.
      tests: size -> test file -> what it imports; run by pytest.
      extra_deps: target -> packages that no import shows.
      data: target -> files that it reads.
      options: test -> further arguments of its rule, such as its tags.
      together: target -> test files that it runs in one process, since each alone would load torch for itself. Their own
        targets are there too, for who names one.
      testonly: modules and programs for tests alone; ["*"]: all of them.
    """
    native.filegroup(
        name = "sources",
        srcs = native.glob(["*.py"]),
        visibility = ["//src:__pkg__"],
    )
    for name, deps in modules.items():
        py_library(
            name = name,
            srcs = [name + ".py"],
            data = data.get(name, []),
            testonly = name in testonly or "*" in testonly,
            visibility = _visibility(name, "*" in testonly),
            deps = deps + extra_deps.get(name, []),
        )
    for name, deps in programs.items():
        py_binary(
            name = name,
            srcs = [name + ".py"],
            data = data.get(name, []),
            testonly = name in testonly or "*" in testonly,
            visibility = ["//visibility:public"],
            deps = deps + extra_deps.get(name, []),
        )
    parts = {part: target for target, names in together.items() for part in names}
    deps_of_parts = {}
    for size, tests_of_size in tests.items():
        for name, deps in tests_of_size.items():
            all_deps = deps + extra_deps.get(name, [])
            if name in parts:
                deps_of_parts[name] = all_deps
            pytest_test(
                name = name,
                size = size,
                srcs = [name + ".py"],
                data = data.get(name, []),
                deps = all_deps,
                **options.get(name, {"tags": ["manual"]} if name in parts else {})
            )
    for target, names in together.items():
        pytest_test(
            name = target,
            size = "medium",
            timeout = "long",
            srcs = [name + ".py" for name in names],
            data = _union([data.get(name, []) for name in names]),
            deps = _union([deps_of_parts[name] for name in names]),
        )

def pytest_test(name, srcs, deps = [], args = [], **kwargs):
    """A test target whose srcs are run by pytest.

    Args:
      name: name of the target.
      srcs: the test files.
      deps: what they import; pytest itself is added.
      args: further arguments for pytest.
      **kwargs: as for py_test.
    """
    py_test(
        name = name,
        srcs = srcs + [_PYTEST_MAIN],
        args = ["$(rootpath %s)" % src for src in srcs] + args,
        main = _PYTEST_MAIN,
        deps = deps + ["@pypi//pytest"],
        **kwargs
    )

def _union(lists):
    """Returns what is in any of some lists, once each."""
    return {entry: None for entries in lists for entry in entries}.keys()

def _visibility(name, testonly):
    """Returns the packages that may use a module: those of the layers above its own, or all where only tests do."""
    package = native.package_name()
    if testonly:
        return ["//src:__subpackages__"]
    users = []
    is_above = False
    for layer in LAYERS:
        if is_above:
            users += [_package(place) for place in layer]
        elif package in layer or package + ":" + name in layer:
            is_above = True
    unique = {user: None for user in users if user != package}
    return ["//%s:__pkg__" % user for user in unique]

def _package(place):
    return place.partition(":")[0]
