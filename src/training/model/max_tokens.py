"""How many tokens a model can read, by its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# GPT-2 and its relatives use the second name.
_POSITIONS = ("max_position_embeddings", "n_positions")
# They number positions from the padding token's id on: of RoBERTa's 514 positions a text can use 512.
_POSITIONS_AFTER_PADDING = (
    *("camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)


def max_tokens(config: Mapping[str, Any]) -> int | None:
    """Returns how many tokens a model can read; None if nothing limits them.

    Args:
        config: content of config.json.
    """
    positions = next((config[name] for name in _POSITIONS if config.get(name) is not None), None)
    # XLNet, whose positions are relative, has -1.
    if positions is None or positions < 0:
        return None
    padding = config.get("pad_token_id", 1)
    if config.get("model_type") not in _POSITIONS_AFTER_PADDING or padding is None:
        return int(positions)
    return int(positions) - (int(padding) + 1)
