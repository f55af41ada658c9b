"""What cannot be trained is refused before the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from src.cli.errors import RequestError
from src.training.model.pretrained import load_model, load_tokenizer
from src.training.model.trial import check_classifies
from src.training.testing.mapped_kinds import build_mapped_kind


def test_a_model_that_predicts_but_cannot_train_is_refused(tmp_path: Path) -> None:
    # In training, its positions are for one length of texts alone.
    folder = build_mapped_kind(tmp_path / "model", "reformer")
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    before = torch.random.get_rng_state()
    with pytest.raises(RequestError, match=r"x \(reformer\) cannot classify texts: If training, make sure"):
        check_classifies(model, tokenizer, name="x", max_seq_length=16)
    assert torch.equal(torch.random.get_rng_state(), before)


# I-BERT puts other tensors in the place of its buffers in training, which nothing could write later.
@pytest.mark.parametrize("kind", ["albert", "ibert"])
def test_a_trial_leaves_the_model_as_it_was(kind: str, tmp_path: Path) -> None:
    folder = build_mapped_kind(tmp_path / "model", kind)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_classifies(model, tokenizer, name="x", max_seq_length=16)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(value.is_inference() for value in model.state_dict().values())
