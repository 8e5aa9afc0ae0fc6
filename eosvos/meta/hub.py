"""Checkpoints on the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from eosvos.config.pretrained import FILES, find, repository
from eosvos.errors import UserError


def fetch(checkpoint: str | Path) -> Path:
    """The file or folder of a checkpoint; one of the Hub is downloaded once, and without a network taken from
    its cache.

    Raises UserError if there is none.
    """
    place = find(str(checkpoint))
    if isinstance(place, Path):
        return place
    with _hub_errors(f"checkpoint={checkpoint} cannot be had"):
        return Path(
            huggingface_hub.snapshot_download(place.name, revision=place.revision, allow_patterns=list(FILES))
        )


def upload(folder: Path, location: str) -> None:
    """Upload the files of a folder to hf://OWNER/NAME, which is made if need be; raises UserError."""
    name, revision = repository(location)
    if revision is not None:
        raise UserError(f"{location}: weights go to the main branch, leave @{revision} out")
    api = huggingface_hub.HfApi()
    with _hub_errors(f"{location} cannot be written"):
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)


@contextmanager
def _hub_errors(beginning: str) -> Iterator[None]:
    try:
        yield
        return
    except LocalTokenNotFoundError:
        reason, mend = "you are not logged in", "run `hf auth login`"
    except Exception as error:  # What the libraries below raise without a network differs between versions.
        # Before version 1 one of them was an answer of the Hub without one.
        answer = error.response if isinstance(error, HfHubHTTPError) else None
        if answer is not None:
            reason = f"the Hugging Face Hub answers {answer.status_code}"
            mend = "check its name, and whether you have access (`hf auth login`)"
        else:
            reason = getattr(error, "strerror", None) or "the Hugging Face Hub cannot be reached"
            mend = "check the network, or give a local folder"
    raise UserError(f"{beginning} ({reason}): {mend}")
