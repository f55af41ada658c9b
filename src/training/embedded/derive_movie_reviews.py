"""Derives the labelled sentences of the `embedded` recipe from the source distribution of vaderSentiment 3.3.2 (MIT).

The sdist carries sentences that at least 20 people each rated from -4 (extremely negative) to +4 (extremely positive):
C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
ICWSM 2014. Movie reviews become train, validation and test rows; Amazon reviews, tweets and editorials become test rows
of other domains. Columns: `text` as published, `label` (`negative` or `positive`, the sign of the mean rating) and
`rating` (the mean rating as published). Rows with a mean of exactly 0 have no label and are left out.

The movie reviews again, as `ratings_*.csv`, for a model that predicts how positive a sentence is: columns `text` and
`label`, which is the mean rating; rows with a mean of 0 included.

Of near-duplicates (near_duplicates.py) the first row stays; if they are of different classes none stays. Which split a
row belongs to, and its place in the file, follow from the SHA-256 of its normalised text alone.

Every file is compared with its pin in pins.py: other bytes are an error, never a silently different data set.
"""

import argparse
import csv
import hashlib
import io
import logging
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from src.training.embedded import pins
from src.training.embedded.near_duplicates import near_duplicate_groups, normalise

COLUMNS = ("text", "label", "rating")
RATING_COLUMNS = ("text", "label")
SPLITS = ("train", "validation", "test")

_INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_MOVIE_REVIEWS = "movieReviewSnippets_GroundTruth.txt"
_OTHER_DOMAINS = {
    "amazon.csv": "amazonReviewSnippets_GroundTruth.txt",
    "tweets.csv": "tweets_GroundTruth.txt",
    "news.csv": "nytEditorialSnippets_GroundTruth.txt",
}

_log = logging.getLogger("derive_movie_reviews")


class Row(NamedTuple):
    """One rated sentence; `rating` is the mean as published, a decimal number between -4 and 4."""

    text: str
    label: str
    rating: str


def read_members(sdist: Path) -> dict[str, str]:
    """Text of the rated-sentence files in the sdist, by file name; nothing is unpacked to disk.

    Raises PinMismatchError when the file is not the pinned sdist, FileNotFoundError when it is missing.
    """
    content = sdist.read_bytes()
    pins.check_bytes(str(sdist), content, pins.SDIST_SHA256)
    inner = _member(content, _INNER_ARCHIVE)
    names = (_MOVIE_REVIEWS, *_OTHER_DOMAINS.values())
    return {name: _member(inner, f"hutto_ICWSM_2014/{name}").decode("utf-8") for name in names}


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        opened = tar.extractfile(name)
        assert opened is not None, f"{name} is not a regular file"
        return opened.read()


class Rating(NamedTuple):
    """One sentence and the mean rating as published."""

    text: str
    rating: str


def parse_ratings(content: str) -> list[Rating]:
    """Every row of a file of `id TAB mean rating TAB text` lines that CR LF parts."""
    fields = (line.split("\t") for line in content.split("\r\n"))
    return [Rating(text.strip(), rating) for _, rating, text in fields]


def parse_rows(content: str) -> list[Row]:
    """Rows with their class; those rated exactly 0, which have none, are left out."""
    return [
        Row(text, "positive" if float(rating) > 0 else "negative", rating)
        for text, rating in parse_ratings(content)
        if float(rating) != 0
    ]


def without_near_duplicates(rows: Iterable[Row]) -> list[Row]:
    """The first row of every group of near-duplicates; no row of a group whose labels contradict each other."""
    rows = list(rows)
    groups = near_duplicate_groups([normalise(row.text) for row in rows])
    return [rows[group[0]] for group in groups if len({rows[position].label for position in group}) == 1]


def first_of_near_duplicates(ratings: Sequence[Rating]) -> list[Rating]:
    """The first row of every group of near-duplicates, however far apart their ratings are."""
    groups = near_duplicate_groups([normalise(row.text) for row in ratings])
    return [ratings[group[0]] for group in groups]


def split_of(text: str) -> str:
    """Split of a movie review: 8 of 10 train, 1 validation, 1 test, by the SHA-256 of the normalised text."""
    tenth = int(order(text)[:16], 16) % 10
    return {0: "test", 1: "validation"}.get(tenth, "train")


def order(text: str) -> str:
    """What rows are sorted by: the SHA-256 of the normalised text."""
    return hashlib.sha256(normalise(text).encode("utf-8")).hexdigest()


def to_csv(rows: Iterable[Row] | Iterable[Rating], *, columns: Sequence[str] = COLUMNS) -> bytes:
    """UTF-8 CSV with a header line and LF line ends.

    Rows are in the order of their hashes: the published order has all positive reviews first, which would make any
    "first N rows" one-sided.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    ordered: list[Row | Rating] = sorted(rows, key=lambda row: (order(row.text), row))
    writer.writerows(ordered)
    return out.getvalue().encode("utf-8")


def derive(sdist: Path) -> dict[str, bytes]:
    """Content of every output file by name. Raises PinMismatchError, FileNotFoundError as `read_members`."""
    members = read_members(sdist)
    reviews = without_near_duplicates(parse_rows(members[_MOVIE_REVIEWS]))
    files = {f"{split}.csv": to_csv(row for row in reviews if split_of(row.text) == split) for split in SPLITS}
    ratings = first_of_near_duplicates(parse_ratings(members[_MOVIE_REVIEWS]))
    for split in SPLITS:
        of_split = (row for row in ratings if split_of(row.text) == split)
        files[f"ratings_{split}.csv"] = to_csv(of_split, columns=RATING_COLUMNS)
    for name, member in _OTHER_DOMAINS.items():
        files[name] = to_csv(without_near_duplicates(parse_rows(members[member])))
    return files


def write(sdist: Path, out_dir: Path) -> None:
    """Writes the nine CSV files into `out_dir`, which is made if needed.

    Raises what `derive` raises, and PinMismatchError before it writes when a derived file is not the pinned one.
    """
    files = derive(sdist)
    pins.write_files(files, pins.MOVIE_REVIEWS, out_dir)
    counts = ", ".join(f"{name} {len(content.splitlines()) - 1}" for name, content in files.items())
    _log.info("rows: %s", counts)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when all files are written, 1 with one sentence on stderr when they cannot be."""
    parser = argparse.ArgumentParser(description="Derive the movie-review data set from the vaderSentiment sdist.")
    parser.add_argument("sdist", type=Path, help=f"path of {pins.SDIST_NAME}")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder that receives the CSV files")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write(arguments.sdist, arguments.out_dir)
    except (pins.PinMismatchError, OSError) as error:
        _log.error("derive_movie_reviews: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
