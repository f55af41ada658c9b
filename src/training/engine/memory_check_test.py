"""The estimate of memory: what it grows with, what it refuses, and the limits it is held against."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from src.cli.errors import RequestError
from src.training.engine.memory_check import Load, ModelSize, check_memory, check_model_fits, training_need
from src.training.environment import memory_limits
from src.training.environment.memory_limits import available_memory

MIB = 2**20
BERT_TINY = ModelSize(weights=4_386_178, embedding=30_522 * 128, layers=2, heads=2, width=128, inner=512)
MINILM = ModelSize(weights=22_713_986, embedding=30_522 * 384, layers=6, heads=12, width=384, inner=1536)
# ModernBERT's kind, by transformers' own layers.
MODERN = ModelSize(weights=11_159_296, embedding=30_522 * 256, layers=6, heads=4, width=256, inner=384)
LOAD = Load(batch=(16, 64), scored=(64, 64), processes=1, is_fused=True, keeps_best=True)


def need(model: ModelSize = BERT_TINY, **changes: object) -> int:
    return training_need(model, dataclasses.replace(LOAD, **changes)).total  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "load", "measured"),
    [
        # MiB that real runs added: the table in docs/training.md says how they were measured.
        (BERT_TINY, LOAD, 209),
        (BERT_TINY, dataclasses.replace(LOAD, batch=(64, 128), scored=(64, 128)), 272),
        (BERT_TINY, dataclasses.replace(LOAD, batch=(64, 128), scored=(64, 128), processes=2), 306),
        (BERT_TINY, dataclasses.replace(LOAD, batch=(16, 256), scored=(128, 256)), 454),
        (MINILM, dataclasses.replace(LOAD, scored=(16, 64)), 871),
        (MINILM, dataclasses.replace(LOAD, scored=(16, 64), processes=2), 912),
        (MINILM, dataclasses.replace(LOAD, batch=(32, 128), scored=(16, 128)), 1489),
        (MINILM, dataclasses.replace(LOAD, batch=(32, 128), scored=(16, 128), processes=2), 1557),
        (MODERN, dataclasses.replace(LOAD, batch=(32, 128), scored=(16, 128), is_fused=False), 811),
    ],
)
def test_the_estimate_is_near_what_real_runs_took(model: ModelSize, load: Load, measured: int) -> None:
    assert 0.75 < training_need(model, load).total / MIB / measured < 1.3


def test_more_rows_tokens_weights_and_processes_need_more() -> None:
    assert need() < need(batch=(64, 64)) < need(batch=(64, 128)) < need(MINILM, batch=(64, 128))
    assert need() < need(processes=2)
    assert need(batch=(64, 128)) < need(batch=(64, 128), is_fused=False)
    assert need(keeps_best=False) < need()
    # Attention's scores grow with the square of the length.
    assert need(batch=(16, 512)) > 4 * need(batch=(16, 128)) - 3 * need(batch=(16, 8))


def test_a_refusal_names_the_figures_and_what_to_change() -> None:
    load = dataclasses.replace(LOAD, batch=(256, 512))
    estimate = training_need(MINILM, load)
    with pytest.raises(RequestError) as refused:
        check_memory(estimate, load=load, available=2 * 10**9)
    words = str(refused.value)
    assert f"about {estimate.total / 1e9:.1f} GB" in words
    assert "256 rows of up to 512 tokens" in words
    assert "2.0 GB are available" in words
    for change in ("--per_device_train_batch_size", "--max_seq_length", "smaller model"):
        assert change in words


def test_a_run_that_may_fit_is_not_refused() -> None:
    estimate = training_need(MINILM, LOAD)
    check_memory(estimate, load=LOAD, available=int(0.76 * estimate.total))
    with pytest.raises(RequestError):
        check_memory(estimate, load=LOAD, available=int(0.7 * estimate.total))


def test_a_model_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1000, 1000, 500], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(RequestError, match=r"take 6\.0 GB of memory, and 4\.0 GB are available"):
        check_model_fits(tmp_path, available=4 * 10**9)
    check_model_fits(tmp_path, available=7 * 10**9)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    check_model_fits(tmp_path, available=1)


def test_the_tightest_control_group_counts_and_its_page_cache_is_free(tmp_path: Path) -> None:
    inner = tmp_path / "cgroup" / "batch" / "job"
    inner.mkdir(parents=True)
    for folder, limit, used, half in ((inner.parent, "1000", 700, 150), (inner, "max", 500, 0)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\nactive_file {half}\ninactive_file {half}\n")
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/\n0::/batch/job\n")
    assert memory_limits._group_limits(own, root=tmp_path / "cgroup") == [600]
    own.write_text("4:memory:/version/1\n")
    assert memory_limits._group_limits(own, root=tmp_path / "cgroup") == []
    assert memory_limits._group_limits(tmp_path / "absent", root=tmp_path / "cgroup") == []


def test_what_is_available_is_within_the_machine() -> None:
    assert 0 < available_memory() < 2**50
