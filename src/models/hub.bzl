"""What models are trained from: pins of the hub, for both lanes. Written by `bazel run //src/rules:pin -- ORG/NAME`."""

load("//src/rules:huggingface.bzl", "hub_dataset", "hub_model")

# buildifier: disable=unnamed-macro
def hub_repositories():
    """The models and data sets of the hub. Nothing is fetched until a target that is built needs it."""
    hub_model(
        name = "bert_tiny",
        commit = "6f75de8b60a9f8a2fdf7b69cbd86d9e64bcb3837",
        files = {
            "config.json": "cf3179684f7c360dd6185962d480e7d426ceb8fe49f5db7b64bdc15dba0b8798",
            "pytorch_model.bin": "dab2c2bddcfb48ea430ef63fd76d46d67d704487844d967256a50dd7d7fd0a66",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        repo = "prajjwal1/bert-tiny",
    )
    hub_dataset(
        name = "glue_sst2",
        commit = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
        files = {
            "sst2/train-00000-of-00001.parquet": "66a253e67968acfabcbe49dbe9da964b42ac1c851c40ab760e8c8942efdb3229",
            "sst2/validation-00000-of-00001.parquet": "a1371f3b3a7b0bcefa8388799a9359dc3ce76c349cc0079507a7991364fd2a9b",
        },
        repo = "nyu-mll/glue",
    )
