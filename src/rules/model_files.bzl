"""What is made of a trained model: model_report(), onnx_model(), gguf_model(). The same on Bazel 4 and Bazel 8."""

load(":finetuned_model.bzl", "FinetunedModelInfo", "MODEL_ACTION")
load(":recipe_fields.bzl", "DATA_FILES")

_MODEL = attr.label(
    doc = "a finetuned_model, or the best of a sweep",
    mandatory = True,
    providers = [FinetunedModelInfo],
)

def _model_report_impl(ctx):
    page = ctx.actions.declare_file(ctx.label.name + ".html")
    run = ctx.attr.model[FinetunedModelInfo].run
    ctx.actions.run_shell(
        arguments = [run.path + "/report.html", page.path],
        command = 'cp "$1" "$2"',
        inputs = [run],
        mnemonic = "ModelReport",
        outputs = [page],
    )
    return [DefaultInfo(files = depset([page]))]

model_report = rule(
    doc = "NAME.html: the report of the run that trained a model.",
    implementation = _model_report_impl,
    attrs = {"model": _MODEL},
)

def _onnx_model_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".onnx")
    check = ctx.actions.declare_file(ctx.label.name + ".onnx.json")
    rows = ctx.file.check_data
    flags = ["--check_file=" + rows.path] if rows else []
    flags += ["--int8"] if ctx.attr.int8 else []
    flags += ["--%s=%s" % (name, value) for name, value in ctx.attr.columns.items()]
    _export(ctx, flags, inputs = [rows] if rows else [], outputs = [output, check])
    return [
        DefaultInfo(files = depset([output])),
        OutputGroupInfo(check = depset([check])),
    ]

onnx_model = rule(
    doc = "NAME.onnx: a classifier for onnxruntime; the build fails unless it predicts as the model does.",
    implementation = _onnx_model_impl,
    attrs = {
        "check_data": attr.label(
            allow_single_file = DATA_FILES,
            doc = "rows to compare on; by default movie reviews",
        ),
        "columns": attr.string_dict(doc = "text_column_name, text_pair_column_name, label_column_name of check_data"),
        "int8": attr.bool(doc = "weights in 8 bits"),
        "model": _MODEL,
        "_program": attr.label(
            cfg = "exec",
            default = "//src/training:export_onnx",
            executable = True,
        ),
    },
)

def _gguf_model_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".gguf")
    _export(ctx, ["--outtype=" + ctx.attr.outtype], inputs = [], outputs = [output])
    return [DefaultInfo(files = depset([output]))]

gguf_model = rule(
    doc = "NAME.gguf: a language model for llama.cpp and ollama.",
    implementation = _gguf_model_impl,
    attrs = {
        "model": _MODEL,
        "outtype": attr.string(
            default = "f16",
            doc = "how matrices are stored",
            values = ["f16", "q8_0", "f32"],
        ),
        "_program": attr.label(
            cfg = "exec",
            default = "//src/training:export_gguf",
            executable = True,
        ),
    },
)

def _export(ctx, flags, *, inputs, outputs):
    model = ctx.attr.model[FinetunedModelInfo].folder
    ctx.actions.run(
        arguments = ["--model=" + model.path, "--output=" + outputs[0].path] + flags,
        executable = ctx.executable._program,
        inputs = [model] + inputs,
        mnemonic = "ExportModel",
        outputs = outputs,
        progress_message = "Exporting %s to %s" % (ctx.attr.model.label, outputs[0].basename),
        **MODEL_ACTION
    )
