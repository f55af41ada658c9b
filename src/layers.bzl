"""Who may import whom: a file may import its own room and what stands in a line above its own line.

A room is a folder; "FOLDER:MODULE" is one module of it, with a line of its own. `//tools:python.bzl` makes the
visibility of every module of this, and `//src:layers_test` holds the imports against it. So only literals stand here.
"""

LAYERS = [
    ["src/cli"],
    ["src/disk"],
    ["src/disk/testing"],
    # training: recipe -> data -> batches -> engine -> artifact folder
    ["src/training/gguf"],
    ["src/training/recipes", "src/training/embedded"],
    ["src/training/environment", "src/training/optimizer"],
    ["src/training/data"],
    ["src/training/model", "src/training/fused"],
    ["src/training/evaluation", "src/training/charts"],
    ["src/training/problems/classification", "src/training/problems/generation", "src/training/problems/regression"],
    ["src/training/problems/multi_label"],
    ["src/training/problems"],
    ["src/training/inference"],
    ["src/training/engine", "src/training/export"],
    ["src/training/report"],
    ["src/training/run"],
    ["src/training/benchmarks"],
    ["src/training"],
    ["src/sweeps"],
    ["src/rules"],
    ["src/training/testing"],
    ["src/training/bits"],
    # cache_manager: recipe -> key -> store
    ["src/cache_manager/store", "src/cache_manager:hub", "src/cache_manager:loading"],
    ["src/cache_manager/keys", "src/cache_manager/sharing"],
    ["src/cache_manager:cached_train", "src/cache_manager:why_miss"],
    ["src/cache_manager:demo"],
    ["src/cache_manager/commands"],
    ["src/cache_manager"],
    ["src/cache_manager/testing"],
    ["src/cache_manager:benchmark"],
    # remote: the same work on executors
    ["src/remote/reapi", "src/remote/results"],
    ["src/remote/config"],
    ["src/remote/serving", "src/remote/checks", "src/remote/image"],
    ["src/remote/nativelink"],
    ["src/remote"],
    ["src/remote/end_to_end", "src/remote/testing"],
]
