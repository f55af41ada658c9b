"""finetune_sweep(): one model for each combination of values and seeds. The same on Bazel 4 and Bazel 8."""

load(":finetuned_model.bzl", "FinetunedModelInfo", "MODEL_ACTION", "SweepPointInfo", "predict_program", "trained_model")

# Fields of a grid that are arguments of finetuned_model(); the others are overrides.
_ARGUMENTS = ["base_model", "recipe", "test_data", "train_data", "validation_data"]
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-"

# Of a file system, less what is added to the names of a point's outputs.
_MAX_NAME = 240

def finetune_sweep(name, grid, seeds = [42], base = {}, recipe = None, base_model = None, score = "", **kwargs):
    """Models for all combinations of a grid's values, each trained with all seeds and cached alone.

    NAME: all points. NAME/learning_rate=0.001,seed=42: one of them. NAME.leaderboard: what `bazel run` prints, and a
    page. NAME.best: the best model, chosen on validation rows; NAME.best.predict asks it.

    Args:
      name: name of the sweep.
      grid: field of the recipe -> values. Besides, recipe, base_model, train_data, validation_data and test_data.
      seeds: with which each setting is trained; two or more tell chance from merit.
      base: fields of the recipe that are the same for all points, as `overrides` of finetuned_model().
      recipe: as for finetuned_model().
      base_model: as for finetuned_model().
      score: what to rank by; by default accuracy, f1_micro or loss, whichever the problem's kind has first.
      **kwargs: as for finetuned_model().
    """
    for field, values in list(grid.items()) + [("seeds", seeds)]:
        if type(values) != "list" or not values:
            fail("%s: give a list of values, not %s" % (field, repr(values)))
    for field in grid:
        if field in base:
            fail("%s is in both grid and base" % field)
    if "seed" in grid or "seed" in base:
        fail("seed: use seeds")

    visible = {key: kwargs[key] for key in ("tags", "testonly", "visibility") if key in kwargs}
    points = {}
    for values in _combinations(grid, seeds):
        settings = {field: _text(value) for field, value in values.items()}
        point = name + "/" + ",".join(["%s=%s" % (field, _file_name(text)) for field, text in settings.items()])
        if point in points:
            fail("%s is in the grid twice" % point)
        if len(point) - len(name) > _MAX_NAME:
            fail("%s is too long for the name of a file: take fields into a recipe of your own" % point)
        points[point] = settings
        given = dict(kwargs, recipe = recipe, base_model = base_model, overrides = dict(base))
        for field, value in values.items():
            if field in _ARGUMENTS:
                given[field] = value
            else:
                given["overrides"][field] = value
        trained_model(name = point, settings = settings, **given)

    labels = [":" + point for point in points]
    native.filegroup(name = name, srcs = labels, **visible)
    sweep_leaderboard(name = name + ".leaderboard", points = labels, score = score, sweep = name, **visible)
    sweep_best(name = name + ".best", points = labels, score = score, sweep = name, **visible)
    predict_program(name + ".best", visible)

def _combinations(grid, seeds):
    """Returns field -> value of each point. By the fields' names, so that their order in the grid is of no account."""
    points = [{}]
    for field in sorted(grid.keys()):
        points = [dict(point, **{field: value}) for point in points for value in grid[field]]
    return [dict(point, seed = seed) for point in points for seed in seeds]

def _text(value):
    if type(value) == "list":
        return "+".join([str(word) for word in value])
    return str(value).lower() if type(value) == "bool" else str(value)

def _file_name(text):
    """Returns a value as a part of a file's name: its hash keeps apart what looks the same without its signs."""
    plain = "".join([letter if letter in _PLAIN else "_" for letter in text.elems()])
    return plain if plain == text else "%s_%x" % (plain, hash(text) % 4294967296)

def _sweep_label(ctx):
    return "//%s:%s" % (ctx.label.package, ctx.attr.sweep)

def _manifest(ctx, *, with_costs, with_models):
    """Writes what the programs read of the points; returns that file and the files that it names."""
    entries = []
    files = []
    for target in ctx.attr.points:
        point, model = target[SweepPointInfo], target[FinetunedModelInfo]
        entry = {"outcome": point.outcome}
        if with_costs:
            entry["cost"] = point.cost
        if with_models:
            entry.update([("model", model.folder), ("run", model.run)])
        files += entry.values()
        paths = {name: file.path for name, file in entry.items()}
        label = "//%s:%s" % (target.label.package, target.label.name)
        entries.append(dict(paths, label = label, settings = point.settings))
    manifest = ctx.actions.declare_file(ctx.label.name + ".points.json")
    ctx.actions.write(
        manifest,
        json.encode({"points": entries, "score": ctx.attr.score, "sweep": _sweep_label(ctx)}),
    )
    return manifest, files

def _sweep_leaderboard_impl(ctx):
    manifest, files = _manifest(ctx, with_costs = True, with_models = False)
    text = ctx.actions.declare_file(ctx.label.name + ".txt")
    page = ctx.actions.declare_file(ctx.label.name + ".html")
    ctx.actions.run(
        arguments = ["--manifest=" + manifest.path, "--text=" + text.path, "--page=" + page.path],
        executable = ctx.executable._program,
        inputs = [manifest] + files,
        mnemonic = "Leaderboard",
        outputs = [text, page],
        progress_message = "Ranking the points of %s" % _sweep_label(ctx),
        env = MODEL_ACTION["env"],
    )
    show = ctx.actions.declare_file(ctx.label.name)

    # The outputs lie beside it, wherever it is called from.
    script = '#!/bin/sh\ncd "$(dirname "$0")" && cat {text} && echo "Page: $(pwd -P)/{page}"\n'
    ctx.actions.write(show, script.format(page = page.basename, text = text.basename), is_executable = True)
    return [DefaultInfo(
        executable = show,
        files = depset([text, page, show]),
        runfiles = ctx.runfiles([text, page]),
    )]

_SWEEP = {
    "points": attr.label_list(providers = [SweepPointInfo]),
    "score": attr.string(),
    "sweep": attr.string(mandatory = True),
}

sweep_leaderboard = rule(
    implementation = _sweep_leaderboard_impl,
    attrs = dict(_SWEEP, _program = attr.label(
        cfg = "exec",
        default = "//src/sweeps:leaderboard",
        executable = True,
    )),
    executable = True,
)

def _sweep_best_impl(ctx):
    manifest, files = _manifest(ctx, with_costs = False, with_models = True)
    model = ctx.actions.declare_directory(ctx.label.name)
    run = ctx.actions.declare_directory(ctx.label.name + ".run")
    ctx.actions.run(
        arguments = ["--manifest=" + manifest.path, "--model=" + model.path, "--run=" + run.path],
        executable = ctx.executable._program,
        inputs = [manifest] + files,
        mnemonic = "ChooseBest",
        outputs = [model, run],
        progress_message = "Choosing the best of %s" % _sweep_label(ctx),
        env = MODEL_ACTION["env"],
    )
    return [
        DefaultInfo(
            files = depset([model]),
            runfiles = ctx.runfiles([model]),
        ),
        OutputGroupInfo(run = depset([run])),
        FinetunedModelInfo(folder = model, recipe = ctx.attr.points[0][FinetunedModelInfo].recipe, run = run),
    ]

sweep_best = rule(
    implementation = _sweep_best_impl,
    attrs = dict(_SWEEP, _program = attr.label(
        cfg = "exec",
        default = "//src/sweeps:choose_best",
        executable = True,
    )),
    provides = [FinetunedModelInfo],
)
