"""finetuned_model(): a trained model as a build output. The same on Bazel 4 and Bazel 8; docs/models-as-artifacts.md."""

load("@rules_python//python:py_binary.bzl", "py_binary")
load("@rules_python//python:py_test.bzl", "py_test")
load("//docker:platform.bzl", "ACTION_TIME_LIMIT_SECONDS")
load(":recipe_fields.bzl", "DATA_FILES", "EMBEDDED_MODELS", "FIELDS", "SHIPPED_RECIPES")

FinetunedModelInfo = provider(
    doc = "A trained model.",
    fields = {
        "folder": "its artifact folder: the same bytes wherever it is trained",
        "recipe": "name of its recipe; None of a model without one",
        "run": "folder with the records of the run that trained it: report, events, times, log",
    },
)

SweepPointInfo = provider(
    doc = "A point of a sweep.",
    fields = {
        "cost": "file: the CPU seconds of the training that made it",
        "outcome": "file: its scores, or why it has none; the same wherever it is trained",
        "settings": "field of the grid -> value, and its seed; as text",
    },
)

# What decides the bits or names an input has an attribute, or is fixed.
_NO_OVERRIDES = {
    "bf16": "its bits are those of one CPU model, and an output is portable",
    "dataset_config_name": "an action has no network: use train_data",
    "dataset_revision": "an action has no network: use train_data",
    "model_name_or_path": "use base_model",
    "model_revision": "an action has no network: use base_model",
    "reproducible": "it is portable, as executors and caches have to agree",
    "test_file": "use test_data",
    "train_file": "use train_data",
    "validation_file": "use validation_data",
}
_DATA = {
    "test_data": "test_file",
    "train_data": "train_file",
    "validation_data": "validation_file",
}

# Before an executor kills the action, which would leave no word.
_TIMEOUT_SECONDS = ACTION_TIME_LIMIT_SECONDS - 300

# As portable runs train: two threads. In bytes of MB, of a small model; the scheduler goes by it.
def _resources(_os, _inputs):
    return {"cpu": 2, "memory": 2000}

# Bazel 4 counts every action as one CPU.
_SCHEDULING = {"resource_set": _resources} if hasattr(native, "package_relative_label") else {}

# How actions run that load models.
MODEL_ACTION = dict(
    # All of it: --action_env is no part of the key.
    env = {
        "HF_HUB_OFFLINE": "1",
        "PATH": "/bin:/usr/bin:/usr/local/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
    },
    execution_requirements = {"block-network": "1"},
    **_SCHEDULING
)

def _finetuned_model_impl(ctx):
    inputs = {}  # name in recipe.json -> files
    flags = _recipe_flags(ctx, inputs) + _base_model_flags(ctx, inputs) + _data_flags(ctx, inputs)
    for name, values in ctx.attr.overrides.items():
        flags += _override_flags(ctx, name, values)
    recipe = ctx.attr.shipped_recipe or (ctx.file.recipe.basename.rpartition(".")[0] if ctx.file.recipe else None)

    model = ctx.actions.declare_directory(ctx.label.name)
    run = ctx.actions.declare_directory(ctx.label.name + ".run")
    arguments = ctx.actions.args()
    outputs = [model, run]
    arguments.add_all(["--model=" + model.path, "--run=" + run.path])
    infos = [FinetunedModelInfo(folder = model, recipe = recipe, run = run)]
    if ctx.attr.settings:
        outcome = ctx.actions.declare_file(ctx.label.name + ".outcome.json")
        cost = ctx.actions.declare_file(ctx.label.name + ".cost.json")
        outputs += [outcome, cost]
        arguments.add_all(["--outcome=" + outcome.path, "--cost=" + cost.path])
        infos.append(SweepPointInfo(cost = cost, outcome = outcome, settings = ctx.attr.settings))
    for name, files in inputs.items():
        arguments.add_all(["--input", name] + [file.path for file in files])
    arguments.add("--")
    arguments.add_all(flags)

    # A checkpoint would be lost with the sandbox.
    arguments.add_all(["--reproducible=portable", "--checkpoint_seconds=1e9"])

    # Bazel gives actions no time limit, and "timeout" is not among the requirements that a rule may state.
    arguments.add("--deadline_seconds=%d" % ctx.attr.timeout_seconds)
    ctx.actions.run(
        arguments = [arguments],
        executable = ctx.executable._program,
        inputs = [file for files in inputs.values() for file in files],
        mnemonic = "FineTune",
        outputs = outputs,
        progress_message = "Training %s (%s)" % (ctx.label, recipe or "no recipe"),
        **MODEL_ACTION
    )
    return infos + [
        DefaultInfo(
            files = depset([model]),
            runfiles = ctx.runfiles([model]),
        ),
        OutputGroupInfo(run = depset([run])),
    ]

def _recipe_flags(ctx, inputs):
    shipped = ctx.attr.shipped_recipe
    if shipped and shipped not in SHIPPED_RECIPES:
        fail("recipe: there is no recipe '%s': choose one of %s, or give the label of a .yaml file" %
             (shipped, ", ".join(SHIPPED_RECIPES)))
    if ctx.file.recipe:
        return ["--recipe=" + _add(inputs, [ctx.file.recipe])]
    if shipped:
        return ["--recipe=" + shipped]
    if not (ctx.attr.base_model or ctx.attr.embedded_base_model) or not ctx.attr.train_data:
        fail("recipe is missing: give one, or base_model and train_data")
    return []

def _base_model_flags(ctx, inputs):
    embedded = ctx.attr.embedded_base_model
    if embedded:
        if embedded not in EMBEDDED_MODELS:
            fail("base_model: '%s' is unknown: choose one of %s" % (embedded, ", ".join(EMBEDDED_MODELS)))
        return ["--model_name_or_path=" + embedded]
    if not ctx.attr.base_model:
        return []
    files = ctx.attr.base_model[DefaultInfo].files.to_list()
    names = [_add(inputs, [file]) for file in files]
    if len(files) == 1 and (files[0].is_directory or files[0].extension == "gguf"):
        return ["--model_name_or_path=./" + names[0]]
    folders = {name.rpartition("/")[0]: None for name in names if name.endswith("/config.json")}
    if len(folders) != 1:
        fail("base_model: %s is neither a folder, nor a .gguf file, nor files with one config.json among them" %
             ctx.attr.base_model.label)
    return ["--model_name_or_path=./" + folders.keys()[0]]

def _data_flags(ctx, inputs):
    if not ctx.files.train_data and (ctx.files.validation_data or ctx.files.test_data):
        fail("train_data is missing: validation_data and test_data go with it")
    flags = []
    for attribute, flag in _DATA.items():
        files = getattr(ctx.files, attribute)
        for target in getattr(ctx.attr, attribute):
            if len(target[DefaultInfo].files.to_list()) != 1:
                fail("%s: %s is not one file: name the files of this split" % (attribute, target.label))
        if len(files) > 1 and [file for file in files if file.extension != "parquet"]:
            fail("%s: several files of one split have to be parquet files" % attribute)
        if files:
            joined = attribute + ".joined.parquet" if len(files) > 1 else None
            flags.append("--%s=%s" % (flag, _add(inputs, files, name = joined)))
    return flags

def _override_flags(_ctx, name, values):
    if name not in FIELDS:
        near = [field for field in FIELDS if field[:4] == name[:4]] or FIELDS
        fail("overrides: '%s' is not a field of a recipe: choose one of %s" % (name, ", ".join(near)))
    if name in _NO_OVERRIDES:
        fail("overrides: %s cannot be set: %s" % (name, _NO_OVERRIDES[name]))
    if name == "dataset_name" and not values[0].startswith("embedded:"):
        fail("overrides: dataset_name has to be embedded:NAME, as an action has no network: use train_data")
    return ["--%s=%s" % (name, values[0])] if len(values) == 1 else ["--" + name] + values

def _add(inputs, files, name = None):
    """Adds a file, or those that become one of a name, to the inputs; returns the name that the run knows it by."""
    name = name or files[0].short_path
    if name.startswith("../"):
        # Without what Bazel 8 puts before a repository's name: the name is in recipe.json, the same in both lanes.
        repository, _, path = name[3:].partition("/")
        name = "external/%s/%s" % (repository.rpartition("+")[2].rpartition("~")[2], path)
    inputs[name] = files
    return name

_finetuned_model = rule(
    implementation = _finetuned_model_impl,
    attrs = {
        "base_model": attr.label(allow_files = True),
        "embedded_base_model": attr.string(),
        "overrides": attr.string_list_dict(),
        "recipe": attr.label(allow_single_file = [".yaml", ".yml", ".json"]),
        "settings": attr.string_dict(),
        "shipped_recipe": attr.string(),
        "test_data": attr.label_list(allow_files = DATA_FILES),
        "timeout_seconds": attr.int(default = _TIMEOUT_SECONDS),
        "train_data": attr.label_list(allow_files = DATA_FILES),
        "validation_data": attr.label_list(allow_files = DATA_FILES),
        "_program": attr.label(
            cfg = "exec",
            default = "//src/rules:finetune",
            executable = True,
        ),
    },
    provides = [FinetunedModelInfo],
)

def finetuned_model(name, recipe = None, base_model = None, overrides = {}, **kwargs):
    """A model that `bazel build` trains, unless a cache has it; and NAME.predict, which asks it.

    Args:
      name: name of the target, and of the artifact folder that it makes.
      recipe: name of a recipe that ships, or label of a .yaml file.
      base_model: embedded:NAME, another finetuned_model, a hub_model, a .gguf file, or the files of a folder of transformers; by
        default that of the recipe.
      overrides: fields of the recipe -> values: numbers, booleans, strings, or lists of names.
      **kwargs: train_data, validation_data, test_data: label of a file, also of a hub_dataset, or labels of several parquet files,
        in place of the recipe's data set; timeout_seconds: after which the training fails; and what every rule has, such as exec_properties and tags.
    """
    trained_model(name, recipe = recipe, base_model = base_model, overrides = overrides, **kwargs)
    predict_program(name, kwargs)

def trained_model(name, recipe, base_model, overrides, **kwargs):
    """The model of finetuned_model() alone.

    Args:
      name: as there, and so are the following.
      recipe: see there.
      base_model: see there.
      overrides: see there.
      **kwargs: as there; settings: of a point of a sweep.
    """
    is_name = type(recipe) == "string" and not (":" in recipe or "/" in recipe or "." in recipe)
    for split in _DATA:
        if type(kwargs.get(split)) in ("string", "Label"):
            kwargs[split] = [kwargs[split]]
    is_embedded = type(base_model) == "string" and base_model.startswith("embedded:")
    _finetuned_model(
        name = name,
        base_model = None if is_embedded else base_model,
        embedded_base_model = base_model if is_embedded else None,
        overrides = {field: _words(field, value) for field, value in overrides.items()},
        recipe = None if is_name else recipe,
        shipped_recipe = recipe if is_name else None,
        **kwargs
    )

def predict_program(name, kwargs):
    """NAME.predict, which asks a model.

    Args:
      name: of the model.
      kwargs: its further arguments, of which this has some too.
    """
    py_binary(
        name = name + ".predict",
        srcs = ["//src/rules:ask_model.py"],
        args = ["$(rootpath :%s)" % name],
        data = [":" + name],
        main = "//src/rules:ask_model.py",
        tags = kwargs.get("tags", []) + ["manual"],
        testonly = kwargs.get("testonly", False),
        visibility = kwargs.get("visibility"),
        deps = ["//src/rules:ask_model"],
    )

def finetuned_model_test(name, model, min = {}, max = {}, size = "small", **kwargs):
    """A test that fails for a model worse than promised, by the `after` scores of its metrics.json.

    Args:
      name: name of the test.
      model: a finetuned_model.
      min: score -> what it has to reach. Nested scores have dots: answers.exact_match.share.
      max: score -> what it may not exceed.
      size: of the test; training is another action, which it does not bound.
      **kwargs: as for py_test.
    """
    if not min and not max:
        fail("%s promises nothing: give min or max" % name)
    limits = []
    for flag, table in (("--min", min), ("--max", max)):
        limits += [flag] + ["%s=%s" % pair for pair in table.items()] if table else []
    py_test(
        name = name,
        size = size,
        srcs = ["//src/rules:check_scores.py"],
        args = ["$(rootpath %s)" % model] + limits,
        data = [model],
        main = "//src/rules:check_scores.py",
        deps = ["//src/rules:check_scores"],
        **kwargs
    )

def _words(field, value):
    values = value if type(value) == "list" else [value]
    for word in values or [None]:
        if type(word) not in ("bool", "float", "int", "string"):
            fail("overrides: %s has to be a number, a boolean, a string or a list of them, not %s" % (field, repr(value)))
    return [str(word).lower() if type(word) == "bool" else str(word) for word in values]
