"""A BERT with random weights and sentences for it, made in a moment: what tests train instead of the real thing."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

POSITIONS = 32
# Words that the tests' sentences are made of. Any other text is spelt in word pieces, letter by letter.
WORDS = ("a", "the", "film", "story", "was", "is", "not", "very", "good", "great", "bad", "awful", "dull", "fine")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "'", ",", ".", "?"),
    *dict.fromkeys((*_LETTERS, *WORDS)),
    *(f"##{letter}" for letter in _LETTERS),
)


def build_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    head: int | None = None,
    dtype: torch.dtype | None = None,
    pickled: bool = False,
    positions: int = POSITIONS,
) -> Path:
    """Writes a model and its tokenizer as `from_pretrained` reads them; returns the folder.

    Args:
        folder: to create.
        seed: decides the weights.
        head: classes of a classification head; None: there is none, as in a base model.
        dtype: what the weights are stored as (default: float32).
        pickled: store them as pytorch_model.bin, without safetensors.
        positions: tokens it can read.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    folder.mkdir(parents=True)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
    )
    config.num_labels = head or 2
    # The tests' own random numbers stay as they were.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = BertModel(config) if head is None else BertForSequenceClassification(config)
    torch.nn.Module.to(model, dtype or torch.float32)
    if pickled:
        config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Writes BERT's tokenizer for VOCABULARY into a folder."""
    from transformers import BertTokenizer

    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    BertTokenizer(vocab=vocabulary, model_max_length=POSITIONS).save_pretrained(folder)


def write_sentences(path: Path, *, rows: int, seed: int, noise: float = 0.0) -> Path:
    """Writes a CSV file with the columns text and label (negative, positive); returns the path.

    Args:
        path: the file.
        rows: how many; every second one is positive.
        seed: decides the words.
        noise: share of the labels that are wrong, so that one epoch is better than another.
    """
    choose = random.Random(seed)
    words = {"positive": ("good", "great", "fine"), "negative": ("bad", "awful", "dull")}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for row in range(rows):
            label = ("negative", "positive")[row % 2]
            sentiment = label if choose.random() >= noise else ("positive", "negative")[row % 2]
            noun, very = choose.choice(("film", "story")), "very " * choose.randrange(6)
            writer.writerow((f"the {noun} {row} was {very}{choose.choice(words[sentiment])}", label))
    return path


def write_ratings(path: Path, *, rows: int, seed: int) -> Path:
    """Writes a CSV file with the columns text and rating: about -1.5, 0 or 1.5 by the sentence's word.

    Args:
        path: the file.
        rows: how many.
        seed: decides words and noise.
    """
    choose = random.Random(seed)
    worth = {"great": 1.5, "fine": 0, "awful": -1.5}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "rating"))
        for row in range(rows):
            word = list(worth)[row % len(worth)]
            writer.writerow((f"the film {row} was {word}", f"{worth[word] + choose.uniform(-0.2, 0.2):.3f}"))
    return path


def write_pairs(path: Path, *, rows: int, seed: int) -> Path:
    """Writes a CSV file with the columns first, second and label: the label is the second sentence's opinion.

    The first one has an opinion by chance, so a model that confuses them is right half of the time.

    Args:
        path: the file.
        rows: how many; every second one is positive.
        seed: decides the words.
    """
    choose = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("first", "second", "label"))
        for row in range(rows):
            opinion = ("bad", "good")[row % 2]
            other = choose.choice(("bad", "good"))
            writer.writerow(
                (f"the story {row} is {other}", f"the film was {opinion}", ("negative", "positive")[row % 2])
            )
    return path


def write_conversations(path: Path, *, rows: int, seed: int) -> Path:
    """Writes a JSON Lines file with the column messages: a sentence, and a word that says its opinion.

    Args:
        path: the file.
        rows: how many; every second one is positive.
        seed: decides the words.
    """
    choose = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            opinion = ("bad", "good")[row % 2]
            asked = f"the {choose.choice(('film', 'story'))} {row} was {'very ' * choose.randrange(6)}{opinion}"
            turns = (("system", "good is not bad"), ("user", asked), ("assistant", opinion))
            file.write(json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}) + "\n")
    return path
