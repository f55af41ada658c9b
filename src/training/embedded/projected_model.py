"""`bert_tiny_minilm`, the base model of the `embedded` recipe, derived from all-MiniLM-L6-v2 (Apache-2.0).

A BERT of the shape of prajjwal1/bert-tiny (Turc et al., "Well-Read Students Learn Better", arXiv:1908.08962): 2 layers,
hidden size 128, 2 heads, 30,522 word pieces. Its word, position and token-type embeddings are MiniLM's, mapped from 384
to 128 dimensions by one linear map: the principal axes of the word embeddings. As the map is the same for all three,
and nothing is subtracted, the projected sum of a token's embeddings is the sum of its projected embeddings.

The file holds these embeddings and nothing else. Layers, pooler and classifier are untrained: `from_pretrained` makes
them from the caller's seed and lists them as missing, so nobody takes them for trained ones.

The bits are the same on every machine (exact_pca.py says why) and are compared with their pins.
"""

import json
import logging
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from src.training.embedded import exact_pca, pins

HIDDEN = 128
_EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
_CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "dtype": "float32",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
_TOKENIZER_CONFIG = {
    "cls_token": "[CLS]",
    "do_lower_case": True,
    "mask_token": "[MASK]",
    "model_max_length": 512,
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer",
    "unk_token": "[UNK]",
}
_README = """\
---
license: apache-2.0
language: en
base_model: sentence-transformers/all-MiniLM-L6-v2
library_name: transformers
---
# bert_tiny_minilm

A starting point for fine-tuning, of use only after training: a BERT with 2 layers, hidden size 128, 2 heads and
30,522 word pieces, whose **embeddings are pretrained and whose layers are not**.

- Embeddings (words, positions, token types): those of `sentence-transformers/all-MiniLM-L6-v2`, projected from 384 to
  128 dimensions on the principal axes of the word embeddings, which keep {explained:.1%} of their energy.
- Layers, pooler, classifier: not in the file. `from_pretrained` initialises them from your seed and says so.
- Tokenizer: MiniLM's (BERT, uncased), without its fixed padding and truncation to 128 tokens.

It has the shape of `prajjwal1/bert-tiny` but is not that model and shares no weight with it.

Made by `//src/training/embedded:derive_base_model`, the same bits on every machine. Licence: Apache-2.0 (LICENSE),
as the model it comes from (NOTICE); the weights were changed as described here.
"""

_log = logging.getLogger(__name__)


def project_embeddings(weights: Path) -> tuple[dict[str, np.ndarray], exact_pca.Basis]:
    """MiniLM's embeddings in 128 dimensions, float32 by their names in a BERT classifier, and the basis used.

    Shapes: words (30522, 128), positions (512, 128), token types (2, 128).
    """
    with safe_open(str(weights), framework="numpy") as opened:
        wide = {name: exact_pca.to_grid(opened.get_tensor(f"embeddings.{name}.weight")) for name in _EMBEDDINGS}
    basis = exact_pca.principal_axes(wide["word_embeddings"], kept=HIDDEN)
    unit = 1 / (exact_pca.VALUE_GRID * exact_pca.VECTOR_GRID)
    narrow = {
        f"bert.embeddings.{name}.weight": (exact_pca.exact_matmul(values, basis.vectors) * unit).astype(np.float32)
        for name, values in wide.items()
    }
    return narrow, basis


def derive(source: Path) -> tuple[dict[str, bytes], exact_pca.Basis]:
    """Content of every file of the derived model by name, and the basis of its embeddings.

    Args:
        source: folder with all-MiniLM-L6-v2's files.

    Raises:
        PinMismatchError: one of them is not the pinned one.
        FileNotFoundError: one of them is missing.
    """
    pins.check_folder(source, pins.MINILM)
    tensors, basis = project_embeddings(source / "model.safetensors")
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    # MiniLM's file pads every text to 128 tokens, which costs most of the time with texts of 27.
    tokenizer.update(padding=None, truncation=None)
    files = {
        "config.json": _json(_CONFIG),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        "tokenizer_config.json": _json(_TOKENIZER_CONFIG),
        "README.md": _README.format(explained=basis.explained).encode("utf-8"),
    }
    for name in ("LICENSE", "NOTICE"):
        files[name] = (source / name).read_bytes()
    return files, basis


def _json(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode("utf-8")


def write(source: Path, out_dir: Path) -> None:
    """Writes the derived model into `out_dir`, which is made if needed.

    Raises what `derive` raises, and PinMismatchError before it writes when a derived file is not the pinned one.
    """
    files, basis = derive(source)
    pins.write_files(files, pins.BERT_TINY_MINILM, out_dir)
    _log.info("bert_tiny_minilm: %d files, %.1f %% of the embeddings' energy kept", len(files), 100 * basis.explained)
