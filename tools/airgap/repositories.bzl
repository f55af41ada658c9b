"""External repositories of the air-gapped lane.

Debian's Bazel 4.2 has no bzlmod, so WORKSPACE calls this where MODULE.bazel
does the work for Bazel 8. Nothing here touches the network:

* @rules_python and @rules_shell hand out the rules built into Bazel 4, whose
  programs see no package but those they declare (python_rules.bzl);
* @pypi has one py_library without sources for each pin of the lock file: the
  packages themselves are those of the interpreter's environment (.venv);
* @rules_cc, @rules_java and @remote_coverage_tools are loaded by Bazel 4's own
  @bazel_tools, which would download them.
"""

load(":host_pypi.bzl", "host_pypi")
load(":host_python.bzl", "host_python")

_DEFS = "\"\"\"Rules built into Bazel 4, under the label of their rule set.\"\"\"\n\n"

def _builtin_rules_impl(rctx):
    for bzl, rules in rctx.attr.exports.items():
        rctx.file(bzl.rpartition("/")[0] + "/BUILD")
        rctx.file(bzl, _DEFS + "".join(["{0} = native.{0}\n".format(rule) for rule in rules]))
    for bzl, rule in rctx.attr.python_rules.items():
        rctx.file(bzl, "load(\"@//tools/airgap:python_rules.bzl\", _rule = \"{0}\")\n\n{0} = _rule\n".format(rule))
    rctx.file("BUILD", rctx.attr.build_file_content)

_builtin_rules = repository_rule(
    implementation = _builtin_rules_impl,
    attrs = {
        "build_file_content": attr.string(),
        "exports": attr.string_list_dict(doc = ".bzl file -> the built-in rules it exports"),
        "python_rules": attr.string_dict(doc = ".bzl file -> the rule of python_rules.bzl it exports"),
    },
)

# buildifier: disable=unnamed-macro
def airgap_repositories(requirements_lock):
    """Defines every repository that MODULE.bazel gets from the registry.

    Args:
      requirements_lock: the lock file that pip.parse reads in MODULE.bazel.
    """
    _builtin_rules(
        name = "rules_python",
        exports = {"python/py_library.bzl": ["py_library"]},
        python_rules = {
            "python/py_binary.bzl": "py_binary",
            "python/py_test.bzl": "py_test",
        },
    )
    _builtin_rules(
        name = "rules_shell",
        exports = {
            "shell/sh_binary.bzl": ["sh_binary"],
            "shell/sh_library.bzl": ["sh_library"],
            "shell/sh_test.bzl": ["sh_test"],
        },
    )
    _bazel_tools_stubs()
    host_pypi(
        name = "pypi",
        requirements_lock = requirements_lock,
    )
    host_python(name = "host_python")

    # The first that fits is taken.
    native.register_toolchains("@host_python//:executor_toolchain", "@host_python//:toolchain")

def _bazel_tools_stubs():
    """What Bazel 4's own @bazel_tools loads, and would download."""
    _builtin_rules(
        name = "rules_cc",
        exports = {"cc/defs.bzl": [
            "cc_binary",
            "cc_library",
            "cc_proto_library",
            "cc_test",
            "cc_toolchain",
            "cc_toolchain_suite",
            "objc_library",
        ]},
    )
    _builtin_rules(
        name = "rules_java",
        exports = {"java/defs.bzl": [
            "java_binary",
            "java_import",
            "java_library",
            "java_runtime",
            "java_toolchain",
        ]},
    )
    _builtin_rules(
        name = "remote_coverage_tools",
        # A test makes Bazel 4 analyse these two, coverage or not.
        build_file_content = """\
filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])
filegroup(name = "lcov_merger", visibility = ["//visibility:public"])
""",
    )
