"""A tiny random model of every architecture that transformers makes a text classifier of, with a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.training.testing.tiny_kinds import byte_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Tokens that each model reads, including special tokens.
MAX_TOKENS = 64
_ENCODER_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
# Fields of configs by what they count: what a tiny model has of it, and their names.
_SIZES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        32,
        (
            *("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "embed_dim", "d_latents"),
            *("word_embed_proj_dim", "pooler_hidden_size", "input_embedding_size", "output_embedding_size"),
            *("entity_emb_size", "pronunciation_embed_dim", "shape_embed_dim", "true_hidden_size", "projection_dim"),
        ),
    ),
    (
        64,
        (
            *("intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner"),
            *("dff", "hidden_dim", "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size"),
            *("feed_forward_size", "entity_vocab_size", "pronunciation_vocab_size", "shape_vocab_size"),
        ),
    ),
    (MAX_TOKENS, ("n_positions", "max_position_embeddings", "n_ctx")),
    (
        2,
        (
            *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depth"),
            *("num_decoder_layers", "num_attention_heads", "n_head", "n_heads", "num_heads", "num_kv_heads"),
            *("encoder_attention_heads", "decoder_attention_heads", "num_key_value_heads", "num_experts_per_tok"),
            *("linear_num_key_heads", "linear_num_value_heads", "num_self_attention_heads", "moe_topk"),
            *("num_cross_attention_heads", "num_self_attends_per_block", "num_latents", "n_group", "topk_group"),
        ),
    ),
    (4, ("num_experts", "num_local_experts", "n_routed_experts")),
    (
        16,
        (
            *("head_dim", "d_kv", "d_head", "linear_key_head_dim", "linear_value_head_dim", "mamba_d_state"),
            *("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_head_dim", "kv_lora_rank", "q_lora_rank"),
        ),
    ),
)
# What a model type needs beside those.
_FIELDS: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}}
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    # As published: RoBERTa's positions, counted from the padding token's id on.
    "esm": {"pad_token_id": 1, "mask_token_id": 4},
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    # A layer of each sort.
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    # Boxes have six widths in LayoutLMv3, and a sixth of a width each in LiLT.
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lilt": {"hidden_size": 24},
    "ministral": {"head_dim": 16},
    "mistral4": {"head_dim": 32},
    "mobilebert": {"intra_bottleneck_size": 32},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    # As published: the class itself has none.
    "t5": {"decoder_start_token_id": 1},
    # Its layers share weights: two of those that do.
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"]},
}
# Special tokens that a model reads by their number.
_SPECIAL_IDS = ("bos_token_id", "pad_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def architectures() -> dict[str, str]:
    """Returns the classes of transformers' mapping for text classifiers by model type."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return dict(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def build_mapped_kind(folder: Path, model_type: str) -> Path:
    """Writes a classifier with random weights and its tokenizer, as `from_pretrained` reads them; returns the folder.

    Args:
        folder: to create.
        model_type: out of `architectures`.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    folder.mkdir(parents=True)
    config = tiny_config(model_type, vocabulary=_TOKENIZERS.get(model_type, _write_tokenizer)(folder, model_type))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def tiny_config(model_type: str, *, vocabulary: int) -> PreTrainedConfig:
    """Returns the defaults of a model type with all that makes a model large made small."""
    from transformers import AutoConfig

    fields = dict(AutoConfig.for_model(model_type).to_dict())
    return AutoConfig.for_model(model_type, **_shrunk(fields, model_type, vocabulary=vocabulary))


def _shrunk(fields: dict[str, Any], model_type: str, *, vocabulary: int) -> dict[str, Any]:
    small: dict[str, Any] = {
        name: size for size, names in _SIZES for name in names if isinstance(fields.get(name), int)
    }
    for name, value in fields.items():
        if isinstance(value, dict) and "model_type" in value:
            small[name] = _shrunk(value, value["model_type"], vocabulary=vocabulary) | {
                "model_type": value["model_type"]
            }
    if "vocab_size" in fields:
        small["vocab_size"] = vocabulary
    for name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        if isinstance(fields.get(name), list):
            # As many as the layers, of each sort that the model has.
            small[name] = (list(dict.fromkeys(fields[name]))[:2] * 2)[:2]
    small |= _ids(fields, model_type)
    return small | _FIELDS.get(model_type, {})


def _ids(fields: dict[str, Any], model_type: str) -> dict[str, int]:
    # Where the defaults name none, nobody's config does.
    if is_decoder(model_type):
        return {name: 0 for name in ("bos_token_id", "eos_token_id") if fields.get(name) is not None} | (
            {"pad_token_id": 0} if fields.get("pad_token_id") is not None else {}
        )
    own = {"bos": 0, "cls": 0, "pad": 1, "eos": 2, "sep": 2, "mask": 4, "decoder_start": 2, "forced_eos": 2}
    return {f"{name}_token_id": at for name, at in own.items() if fields.get(f"{name}_token_id") is not None}


def is_decoder(model_type: str) -> bool:
    """Whether a model continues text and does nothing else: its tokenizer has no padding token."""
    from transformers.models.auto import modeling_auto as auto

    others = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES | auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    return model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in others


def _write_tokenizer(folder: Path, model_type: str) -> int:
    """Writes a tokenizer as decoders have it, with an end token alone, or one as encoders have it; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if is_decoder(model_type):
        vocabulary, merges = byte_pairs(("<|endoftext|>",))
        names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    else:
        vocabulary, merges = byte_pairs(_ENCODER_TOKENS)
        names = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
        names |= {"sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if "cls_token" in names:
        ends = [(name, vocabulary[name]) for name in ("<s>", "</s>")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=ends
        )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, model_input_names=inputs, **names
    ).save_pretrained(folder)
    return len(vocabulary)


def _write_canine(folder: Path, model_type: str) -> int:
    del model_type
    from transformers import CanineTokenizer

    CanineTokenizer(model_max_length=MAX_TOKENS).save_pretrained(folder)
    return 0


_TOKENIZERS: dict[str, Callable[[Path, str], int]] = {"canine": _write_canine}
