"""Derives the base model of the `embedded` recipe (projected_model.py) from the installed all-MiniLM-L6-v2."""

import argparse
import logging
import sys
from pathlib import Path

from src.training.embedded import pins, projected_model
from src.training.embedded.minilm import minilm_folder

_log = logging.getLogger("derive_base_model")


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when all files are written, 1 with one sentence on stderr when they cannot be."""
    parser = argparse.ArgumentParser(description="Derive bert_tiny_minilm from the installed all-MiniLM-L6-v2.")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder that receives the model")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        projected_model.write(minilm_folder(), arguments.out_dir)
    except (pins.PinMismatchError, OSError) as error:
        _log.error("derive_base_model: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
