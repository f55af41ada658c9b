"""Derives the conversations of the `embedded_llm` recipe from the rated sentences of vaderSentiment 3.3.2 (MIT).

Short sentences of four domains (derive_movie_reviews.py says where they come from) become conversations of three turns:
the task, the sentence, and the answer in JSON, {"domain": "movie", "sentiment": "positive"}. The domain is the file
that a sentence stands in, the sentiment the sign of its mean rating. Each split holds as many rows of every domain and
sentiment: a guess is right in one row of eight.

Of near-duplicates in all four files the first row stays; if their answers differ none stays. Which split a row belongs
to, which rows are taken, and their order follow from the SHA-256 of the normalised text alone.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from src.training.embedded import pins
from src.training.embedded.derive_movie_reviews import (
    SPLITS,
    Row,
    order,
    parse_rows,
    read_members,
    split_of,
    without_near_duplicates,
)

DOMAINS = {
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "tweet": "tweets_GroundTruth.txt",
    "news": "nytEditorialSnippets_GroundTruth.txt",
}
SENTIMENTS = ("positive", "negative")
# Each of its tokens is read in every row.
SYSTEM = "Answer in JSON. domain: movie, product, tweet or news. sentiment: positive or negative."
ROWS_OF_EACH = {"train": 400, "validation": 25, "test": 38}
# Characters. Shorter ones say too little, longer ones cost time.
_LENGTHS = range(20, 101)
# Points of 4 from neutral: nearer to it the raters disagree.
_MIN_RATING = 0.5

_log = logging.getLogger("derive_domain_sentiment")


def _rows(members: dict[str, str]) -> Iterable[Row]:
    """Yields the sentences that are taken into account, with `domain sentiment` for a label."""
    for domain, member in DOMAINS.items():
        for text, label, rating in parse_rows(members[member]):
            words = " ".join(text.split())
            if len(words) in _LENGTHS and abs(float(rating)) >= _MIN_RATING:
                yield Row(words, f"{domain} {label}", rating)


def conversation(row: Row) -> dict[str, list[dict[str, str]]]:
    """The row as `messages`."""
    domain, sentiment = row.label.split()
    answer = json.dumps({"domain": domain, "sentiment": sentiment})
    turns = {"system": SYSTEM, "user": row.text, "assistant": answer}
    return {"messages": [{"role": role, "content": content} for role, content in turns.items()]}


def derive(sdist: Path) -> dict[str, bytes]:
    """Content of every output file by name. Raises PinMismatchError, FileNotFoundError as `read_members`."""
    rows = sorted(without_near_duplicates(_rows(read_members(sdist))), key=lambda row: order(row.text))
    files = {}
    for split in SPLITS:
        labels = [f"{domain} {sentiment}" for domain in DOMAINS for sentiment in SENTIMENTS]
        of_split = [row for row in rows if split_of(row.text) == split]
        taken = [
            row for label in labels for row in [row for row in of_split if row.label == label][: ROWS_OF_EACH[split]]
        ]
        taken.sort(key=lambda row: order(row.text))
        lines = (json.dumps(conversation(row), ensure_ascii=False) + "\n" for row in taken)
        files[f"{split}.jsonl"] = "".join(lines).encode("utf-8")
    return files


def write(sdist: Path, out_dir: Path) -> None:
    """Writes the three files into `out_dir`, which is made if needed.

    Raises what `derive` raises, and PinMismatchError before it writes when a derived file is not the pinned one.
    """
    files = derive(sdist)
    pins.write_files(files, pins.DOMAIN_SENTIMENT, out_dir)
    counts = ", ".join(f"{name} {len(content.splitlines())}" for name, content in files.items())
    _log.info("conversations: %s", counts)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when all files are written, 1 with one sentence on stderr when they cannot be."""
    parser = argparse.ArgumentParser(description="Derive domain_sentiment from the vaderSentiment sdist.")
    parser.add_argument("sdist", type=Path, help=f"path of {pins.SDIST_NAME}")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder that receives the files")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write(arguments.sdist, arguments.out_dir)
    except (pins.PinMismatchError, OSError) as error:
        _log.error("derive_domain_sentiment: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
