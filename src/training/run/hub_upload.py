"""Uploads a finished model to the hub, with the token that HF_TOKEN or `hf auth login` gives."""

from __future__ import annotations

from pathlib import Path

from src.cli.errors import RequestError, in_one_line
from src.training.environment.hub import go_offline_unless_reachable

# It shows texts of the rows, and what is published cannot be taken back.
KEPT_HERE = "report.html"
_MAX_WORDS = 300


def check_upload(repository: str | None) -> None:
    """Finds out who uploads, before hours of training.

    Args:
        repository: as given; None: it is named after the model's folder.

    Raises:
        RequestError: the hub does not answer, or refuses, or there is no token.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import validate_repo_id

    if not go_offline_unless_reachable():
        raise RequestError("--push_to_hub: the hub is not reachable, or HF_HUB_OFFLINE is set: leave the flag out")
    if get_token() is None:
        raise RequestError("--push_to_hub: there is no token of the hub: set the environment variable HF_TOKEN")
    try:
        if repository is not None:
            validate_repo_id(repository)
        HfApi().whoami()
    except (OSError, ValueError) as error:
        raise RequestError(f"--push_to_hub: {_words(error)}: correct --hub_model_id or HF_TOKEN") from error


def upload(folder: Path, repository: str | None, *, private: bool) -> str:
    """Uploads all of a model's folder but KEPT_HERE, in one commit.

    Args:
        folder: complete.
        repository: NAME or OWNER/NAME, made if it is missing; None: named after the folder.
        private: whether a new repository is.

    Returns:
        The address of the commit.

    Raises:
        OSError: it failed; the message says how to retry.
    """
    from huggingface_hub import HfApi

    name = repository or folder.name
    try:
        name = HfApi().create_repo(name, private=private, exist_ok=True).repo_id
        commit = HfApi().upload_folder(
            repo_id=name, folder_path=folder, ignore_patterns=KEPT_HERE, commit_message="Upload a fine-tuned model"
        )
    # The libraries below it have errors of their own, not all of them OSErrors.
    except Exception as error:
        raise OSError(
            f"the model is complete in {folder}, but its upload failed ({_words(error)}): retry with "
            f"`hf upload {name} {folder} --exclude {KEPT_HERE}`"
        ) from error
    return str(commit.commit_url)


def _words(error: Exception) -> str:
    from huggingface_hub import get_token

    return in_one_line(error, limit=_MAX_WORDS).replace(get_token() or "\0", "***")
