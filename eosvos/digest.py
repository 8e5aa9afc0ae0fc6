"""What files are known by."""

import hashlib
from pathlib import Path


def file_digest(*files: Path) -> bytes:
    """SHA-256 of the content of files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            hashlib.file_digest(content, lambda: digest)
    return digest.digest()
