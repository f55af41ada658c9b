"""Random models of the kinds that users start from, each with the tokenizer that goes with it, made in a moment.

Their sizes differ on purpose: nothing is to rest on BERT's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.training.testing.tiny_model import VOCABULARY, WORDS, write_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# Tokens that each kind reads, including special tokens.
MAX_TOKENS = 40


def build_tiny_kind(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Writes a base model without a head, and its tokenizer, as `from_pretrained` reads them; returns the folder.

    Args:
        folder: to create.
        kind: a name out of KINDS.
        seed: decides the weights.
    """
    import torch
    from transformers import AutoModel

    folder.mkdir(parents=True)
    config, more = KINDS[kind](folder)
    # The tests' own random numbers stay as they were.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModel.from_config(config, **more).save_pretrained(folder)
    return folder


def _bert(folder: Path, **sizes: Any) -> PreTrainedConfig:
    from transformers import BertConfig

    write_tokenizer(folder)
    own: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=MAX_TOKENS, **(own | sizes))


def _minilm(folder: Path) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """As sentence-transformers publishes it: with files of its own, and no weights of the pooler BERT's head needs."""
    config = _bert(folder, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=48)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}', encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    return config, {"add_pooling_layer": False}


def _distilbert(folder: Path) -> tuple[PreTrainedConfig, dict[str, Any]]:
    from transformers import DistilBertConfig

    write_tokenizer(folder)
    return DistilBertConfig(
        vocab_size=len(VOCABULARY), max_position_embeddings=MAX_TOKENS, dim=16, n_layers=2, n_heads=4, hidden_dim=40
    ), {}


def _roberta(folder: Path) -> tuple[PreTrainedConfig, dict[str, Any]]:
    from transformers import RobertaConfig, RobertaTokenizer

    specials = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary, merges = byte_pairs(specials)
    # The published limit, 512, goes with 514 positions.
    RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS).save_pretrained(folder)
    return RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        # The first two are never reached: they are counted from the padding token's id on.
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        pad_token_id=1,
    ), {}


def _modernbert(folder: Path) -> tuple[PreTrainedConfig, dict[str, Any]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import ModernBertConfig, PreTrainedTokenizerFast

    # Its padding is not the first token, as in the published vocabulary.
    specials = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    vocabulary, merges = byte_pairs(specials)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ids: dict[str, Any] = {f"{name}_token_id": vocabulary[f"[{name.upper()}]"] for name in ("pad", "cls", "sep")}
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    names = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), specials, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    ).save_pretrained(folder)
    return ModernBertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=MAX_TOKENS,
        # Fewer than the tokens: most layers attend to a few neighbours only.
        local_attention=8,
        **ids,
        bos_token_id=vocabulary["[CLS]"],
        eos_token_id=vocabulary["[SEP]"],
    ), {}


def build_tiny_decoder(folder: Path, kind: str, *, padding: bool) -> Path:
    """Writes a decoder, as `build_tiny_kind` does an encoder.

    Args:
        folder: to create.
        kind: "gpt2" or "llama".
        padding: whether its tokenizer names a padding token, as Qwen's does and GPT-2's and Llama's do not.
    """
    import torch
    from transformers import AutoConfig, AutoModel, GPT2Tokenizer

    folder.mkdir(parents=True)
    vocabulary, merges = byte_pairs(("<|endoftext|>",))
    tokenizer = GPT2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
    if padding:
        tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 0}
    own = {"gpt2": {}, "llama": {"intermediate_size": 32}}[kind]
    config = AutoConfig.for_model(kind, vocab_size=len(vocabulary), max_position_embeddings=MAX_TOKENS, **sizes, **own)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


# As SmolLM2's, without the system prompt that it adds.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_tiny_chat_tokenizer(
    *, template: str | None = CHAT_TEMPLATE, bos: str = "<|im_start|>", eos: str = "<|im_end|>", begins: bool = False
) -> PreTrainedTokenizerBase:
    """Returns a tokenizer of a language model. Its padding token is its end token, as SmolLM2's is.

    Args:
        template: chat template.
        bos: token that texts begin with.
        eos: token that texts end with.
        begins: whether the tokenizer puts bos before every text, as Llama's does.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    vocabulary, merges = byte_pairs(specials)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    backend.decoder = decoders.ByteLevel()
    if begins:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary[bos])]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos)
    tokenizer.add_tokens([AddedToken(special, special=True, normalized=False) for special in specials], True)
    tokenizer.chat_template = template
    return tokenizer


def build_tiny_chat_model(folder: Path, *, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0) -> Path:
    """Writes a Llama of two layers with fewer heads for keys than for queries; returns the folder.

    Args:
        folder: to create.
        tokenizer: the one to save with it (default: that of build_tiny_chat_tokenizer()).
        seed: decides the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or build_tiny_chat_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def byte_pairs(specials: tuple[str, ...]) -> tuple[dict[str, int], Any]:
    """Returns a byte-level vocabulary that has the tests' words as tokens, with and without a space before."""
    from tokenizers import pre_tokenizers

    tokens = dict.fromkeys((*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())))
    merges: dict[tuple[str, str], None] = {}
    # The letter that stands for a space is "Ġ".
    for word in [start + word for word in WORDS for start in ("", "Ġ")]:
        for end in range(1, len(word)):
            merges[(word[:end], word[end])] = None
            tokens[word[: end + 1]] = None
    return {token: number for number, token in enumerate(tokens)}, list(merges)


KINDS: dict[str, Callable[[Path], tuple[PreTrainedConfig, dict[str, Any]]]] = {
    "bert": lambda folder: (_bert(folder), {}),
    "minilm": _minilm,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "modernbert": _modernbert,
}


# Cases kept outside of this repository import it by this name.
_byte_pairs = byte_pairs
