"""Module extensions of the online lane. Bazel 4 never loads this file: it does not know module_extension.

Run with Bazel 7.7.1, not in CI: see docs/bazel.md.
"""

load("//src/models:hub.bzl", "hub_repositories")
load("//tools:pypi_sdist.bzl", "pypi_sdist")
load(":packages.bzl", "image_python", "pypi_hub")

_sdist = tag_class(
    doc = "Source distribution of a locked package, as @name//:sdist.",
    attrs = {
        "name": attr.string(
            doc = "the repository's name",
            mandatory = True,
        ),
        "package": attr.string(
            doc = "the package's name on PyPI",
            mandatory = True,
        ),
        # The label is resolved in MODULE.bazel's scope, the only place that names the interpreter's version.
        "python": attr.label(
            doc = "interpreter with pip; default: python3 from PATH",
        ),
        "requirements_lock": attr.label(
            doc = "holds the package's version and hashes",
            mandatory = True,
        ),
    },
)

def _sdists_impl(module_ctx):
    for module in module_ctx.modules:
        for tag in module.tags.sdist:
            pypi_sdist(
                name = tag.name,
                package = tag.package,
                python = tag.python,
                requirements_lock = tag.requirements_lock,
            )

    # Only the tags determine the repositories, so MODULE.bazel.lock need not hold them.
    return module_ctx.extension_metadata(reproducible = True)

sdists = module_extension(
    implementation = _sdists_impl,
    tag_classes = {"sdist": _sdist},
)

_hub = tag_class(
    doc = "The locked packages as @name//PACKAGE, and the executor image's interpreter.",
    attrs = {
        "image_python": attr.string(
            doc = "name of the repository with the interpreter's toolchain",
            mandatory = True,
        ),
        "name": attr.string(
            doc = "the repository's name",
            mandatory = True,
        ),
        "requirements_lock": attr.label(
            doc = "names the packages",
            mandatory = True,
        ),
        "wheels": attr.string(
            doc = "pip.parse's hub, as the module names it",
            mandatory = True,
        ),
    },
)

def _packages_impl(module_ctx):
    for module in module_ctx.modules:
        for tag in module.tags.hub:
            image_python(name = tag.image_python)
            pypi_hub(
                name = tag.name,
                requirements_lock = tag.requirements_lock,
                wheels = tag.wheels,
            )
    return module_ctx.extension_metadata(reproducible = True)

packages = module_extension(
    implementation = _packages_impl,
    tag_classes = {"hub": _hub},
)

def _hub_impl(module_ctx):
    hub_repositories()

    # Every file has its sha256, so MODULE.bazel.lock need not hold them.
    return module_ctx.extension_metadata(reproducible = True)

hub = module_extension(
    doc = "Models and data sets of the hub, as src/models/hub.bzl pins them. Not yet run.",
    implementation = _hub_impl,
)
