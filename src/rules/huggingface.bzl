"""hub_model(), hub_dataset(): files of the hub, at one commit and of known sha256, as inputs. The same on Bazel 4 and 8.

`bazel run //src/rules:pin -- ORG/NAME` prints the calls. docs/models-as-artifacts.md.
"""

# huggingface_hub's own; $HF_ENDPOINT takes its place, as there. //src/rules:pin_test holds it to huggingface_hub.
DEFAULT_ENDPOINT = "https://huggingface.co"

# What a file of these names does to a repository of Bazel is not for the hub to say.
_BAZELS_OWN = ["BUILD", "BUILD.bazel", "MODULE.bazel", "REPO.bazel", "WORKSPACE", "WORKSPACE.bazel"]

_BUILD = """\
package(default_visibility = ["//visibility:public"])

exports_files({files})

filegroup(
    name = "{name}",
    srcs = {files},
)
"""

def _hub_files_impl(rctx):
    _check_pins(rctx)
    is_dataset = rctx.attr.kind == "dataset"
    place = ("datasets/" if is_dataset else "") + rctx.attr.repo
    environment = rctx.os.environ
    endpoint = environment.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
    token = _token(rctx) if endpoint.startswith("http") else None
    cached = "%s/%ss--%s/snapshots/%s" % (
        _cache(environment),
        rctx.attr.kind,
        rctx.attr.repo.replace("/", "--"),
        rctx.attr.commit,
    )
    for file, sha256 in rctx.attr.files.items():
        urls = ["%s/%s/resolve/%s/%s" % (mirror.rstrip("/"), place, rctx.attr.commit, file) for mirror in rctx.attr.mirrors]
        if rctx.path("%s/%s" % (cached, file)).exists:
            urls.insert(0, "file://%s/%s" % (cached, file))

        # `resolve` leads small files on to another address of the hub, which Bazel then asks without the token; `raw`
        # has them itself.
        from_hub = ["%s/%s/%s/%s/%s" % (endpoint, place, way, rctx.attr.commit, file) for way in ("resolve", "raw")]
        rctx.download(
            urls + from_hub,
            auth = {url: _bearer(token) for url in from_hub} if token else {},
            output = file,
            sha256 = sha256,
        )
    rctx.file("BUILD", _BUILD.format(
        files = repr(rctx.attr.files.keys()),
        name = "data" if is_dataset else "model",
    ))

def _check_pins(rctx):
    if rctx.attr.repo.count("/") > 1 or ".." in rctx.attr.repo or rctx.attr.repo.startswith("/"):
        fail("repo is not ORG/NAME: '%s'" % rctx.attr.repo)
    if not _is_hex(rctx.attr.commit, 40):
        fail("commit of %s has to be 40 hexadecimal digits, as a branch may move: //src/rules:pin prints it" % rctx.attr.repo)
    for file, sha256 in rctx.attr.files.items():
        parts = file.split("/")
        if "" in parts or "." in parts or ".." in parts or parts[-1] in _BAZELS_OWN or file.endswith(".bzl"):
            fail("files of %s: '%s' cannot be one" % (rctx.attr.repo, file))
        if not _is_hex(sha256, 64):
            fail("files of %s: '%s' has no sha256 of 64 hexadecimal digits: //src/rules:pin prints it" % (rctx.attr.repo, file))

def _is_hex(text, digits):
    return len(text) == digits and not text.lower().strip("0123456789abcdef")

def _hub_folder(environment):
    caches = environment.get("XDG_CACHE_HOME") or environment.get("HOME", "") + "/.cache"
    return environment.get("HF_HOME") or caches + "/huggingface"

def _cache(environment):
    return environment.get("HF_HUB_CACHE") or _hub_folder(environment) + "/hub"

def _token(rctx):
    """The token of the environment, else of the hub's own file; None without one.

    Neither variable is in `environ`, whose values Bazel writes beside the repository. Nor is the file read with
    rctx.read(), which notes its hash.
    """
    environment = rctx.os.environ
    token = environment.get("HF_TOKEN")
    if not token:
        path = environment.get("HF_TOKEN_PATH") or _hub_folder(environment) + "/token"
        read = rctx.execute(["cat", path])
        token = read.stdout if not read.return_code else ""
    return token.strip() or None

def _bearer(token):
    return {"login": "", "password": token, "pattern": "Bearer <password>", "type": "pattern"}

_hub_files = repository_rule(
    implementation = _hub_files_impl,
    attrs = {
        "commit": attr.string(
            doc = "40 hexadecimal digits",
            mandatory = True,
        ),
        "files": attr.string_dict(
            doc = "name -> sha256",
            mandatory = True,
        ),
        "kind": attr.string(
            mandatory = True,
            values = ["dataset", "model"],
        ),
        "mirrors": attr.string_list(
            doc = "addresses laid out as the hub is, http(s):// or file://, that are asked before it",
        ),
        "repo": attr.string(
            doc = "ORG/NAME",
            mandatory = True,
        ),
    },
)

def hub_model(name, **kwargs):
    """A model of the hub: @name//:model is a base_model of finetuned_model().

    Args:
      name: of the repository.
      **kwargs: repo, commit, files, mirrors: as above.
    """
    _hub_files(name = name, kind = "model", **kwargs)

def hub_dataset(name, **kwargs):
    """A data set of the hub: each file is a label, such as @name//:data/train-00000-of-00001.parquet; all are @name//:data.

    Args:
      name: of the repository.
      **kwargs: repo, commit, files, mirrors: as above.
    """
    _hub_files(name = name, kind = "dataset", **kwargs)
