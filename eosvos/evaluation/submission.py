"""The zip of masks that the evaluation server of a data set takes.

Each layout is the server's: of DAVIS as its scoring program, evaluation_codalab.py of davis2017-evaluation,
asks for it, of YouTube-VOS as youtube-vos.org does. A video knows its place in it, `server_folder`.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

from PIL import Image

from eosvos.data.pictures import naming_broken_file
from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError
from eosvos.evaluation.results import ResultsFolder
from eosvos.writing import whole_file


def check_submission(videos: Sequence[VideoSequence]) -> None:
    """Raise UserError unless there is a server that takes masks of all the videos."""
    if any(video.server_folder is None for video in videos):
        raise UserError(
            "submission=true: no evaluation server takes masks of these test videos, only of all videos of "
            "YouTube-VOS (split valid, valid_all_frames, test or test_all_frames; part=null) or DAVIS 2017 "
            "(split test-dev or test-challenge; 480p), without short_side: choose those, or leave it out"
        )


def write_submission(folder: ResultsFolder, videos: Sequence[VideoSequence]) -> Path:
    """Write the zip of the videos' masks into a results folder that holds them all; returns where it is.

    What is written is read again, and takes its place only if each mask is one of its video. Raises UserError
    if one is missing or broken, or is no mask of its video.
    """
    files = {
        f"{video.server_folder}/{frame}.png": (folder.root / video.name / f"{frame}.png", video)
        for video in videos
        for frame in video.result_names
    }
    for file, _ in files.values():
        if not file.is_file():
            raise UserError(f"{file} is missing: run the same command again, which computes its video anew")
    with whole_file(folder.submission) as temporary:
        with ZipFile(temporary, "w") as archive:
            for name, (file, _) in files.items():
                archive.write(file, name)
        with ZipFile(temporary) as archive:
            for name, (file, video) in files.items():
                _check_mask(archive.read(name), file, video)
    return folder.submission


def _check_mask(content: bytes, file: Path, video: VideoSequence) -> None:
    """Raise UserError unless the content of a PNG is a palette image of a video's objects, in its size."""
    with naming_broken_file(file), Image.open(io.BytesIO(content)) as image:
        image.load()
        ids = {index for _, index in image.getcolors() or ()} if image.mode == "P" else {-1}
        if image.size != tuple(video.size[::-1]) or not ids <= {0, *video.object_ids}:
            raise UserError(
                f"{file} is no palette PNG of {video.size[1]}x{video.size[0]} pixels and of the objects of "
                f"{video.name}: set overwrite=true to compute all anew"
            )
