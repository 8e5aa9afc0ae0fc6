"""Results on disk, in the layout that the official DAVIS tool, vos-benchmark and the YouTube-VOS server read.

    RESULTS/<sequence>/<frame>.png            label maps with the DAVIS palette
    RESULTS/<sequence>/<frame>.cutout.png     instead: the objects on transparency
    RESULTS/<sequence>.overlay.png            a few frames with their masks
    RESULTS/<sequence>.overlay.mp4            all frames with their masks
    RESULTS/<sequence>.record.json            what it is made of, and the pictures that are written; at last
                                              scores and seconds, which mark it as finished
    RESULTS/<sequence>.state.pt               of an unfinished one, what its next frames depend on; until it
                                              is finished, there are label maps in any format
    RESULTS/manifest.json                     what makes these results, apart from the videos
    RESULTS/global_results-<split>.csv        the official tool's tables
    RESULTS/per-sequence_results-<split>.csv
    RESULTS/submission-<split>.zip            the masks as the data set's server takes them, if asked for

There are no other folders: vos-benchmark takes each for a sequence.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosvos.data.pictures import naming_broken_file
from eosvos.digest import file_digest
from eosvos.errors import UserError
from eosvos.evaluation.records import SequenceRecord, official_tables
from eosvos.writing import check_apart, check_writable, remove, write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from eosvos.data.sequence import VideoSequence

_log = logging.getLogger(__name__)

RECORD = ".record.json"
OVERLAY = ".overlay.png"
OVERLAY_VIDEO = ".overlay.mp4"
STATE = ".state.pt"
MANIFEST = "manifest.json"
_TABLE = re.compile(r"(global|per-sequence)_results-[^/]+\.csv|submission-[^/]+\.zip")
_LONGEST = 200
"""Bytes of a sequence's name: those of its files are longer, and file systems take 255."""


@dataclass(frozen=True)
class Entry:
    """What a folder knows of a sequence: what its results are of, their pictures, the record when finished.

    pictures: names in the folder; they are listed before the first is written. temporary: the same of what
    goes when it is finished. digest: SHA-256 of the pictures' content when finished.
    """

    fingerprint: str = ""
    pictures: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    record: SequenceRecord | None = None
    digest: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """All names."""
        return *self.pictures, *self.temporary


class ResultsFolder:
    """A folder of results that an interrupted evaluation goes on filling; first `open` it.

    Files that are there already, and that neither its manifest nor its records list, are someone else's: they
    are neither written over nor deleted.
    """

    def __init__(self, root: str | Path, split: str, results_format: str = "png") -> None:
        self.root = Path(root)
        self.format = results_format
        self.tables = (f"global_results-{split}.csv", f"per-sequence_results-{split}.csv")
        self.submission = self.root / f"submission-{split}.zip"
        self._made_by = ""

    def check(
        self, sequences: Sequence[VideoSequence], read: Collection[Path], overwrite: bool = False
    ) -> None:
        """Raise UserError where results of the sequences cannot be written here, whatever made them.

        read: folders and files that are read from. overwrite: whether what eosvos wrote will be deleted.
        """
        names = [sequence.name for sequence in sequences]
        self._check_sequence_names(names)
        folders = [self.root / name for name in (*names, *(self._recorded() if overwrite else ()))]
        check_apart(folders, read, f"results={self.root}")
        held = {path.resolve().parent: path for path in read if path.is_file()}
        for folder in folders:
            if path := held.get(folder.resolve()):
                raise UserError(
                    f"results={self.root} would replace {path}, which is read: choose another folder"
                )
            check_writable(folder, "results")
        self._manifest()
        for sequence in sequences:
            _check_names(f"frame of {sequence.name}", sequence.frame_names)
            self._check_ours(self._begun(sequence, overlay=True).files, self._entry(sequence.name).files)

    def open(self, manifest: Mapping[str, Any], overwrite: bool = False) -> None:
        """Begin to fill the folder, or go on.

        `manifest` says what makes the results, apart from the videos (plain values: hashes, settings). Raises
        UserError if there are results of something else, naming what differs; `overwrite` deletes all that
        eosvos has written there and starts anew.
        """
        wanted = json.loads(json.dumps({**manifest, "tables": self._of_all}))
        there = self._manifest()
        if overwrite:
            self._forget(there or {})
        elif there is not None and (found := list(differences(there, wanted))):
            raise UserError(
                f"results={self.root} holds the results of another evaluation ({'; '.join(found)}): "
                "choose another folder, or set overwrite=true"
            )
        write_whole(self.root / MANIFEST, json.dumps(wanted, indent=2).encode())
        self._made_by = json.dumps(wanted, sort_keys=True)

    def begin(self, sequence: VideoSequence, overlay: bool = False) -> SequenceRecord | None:
        """The record of a finished sequence; or None, after making way for new pictures of it, unless its
        state is there to go on from.

        Both count only if it is the same video; it is finished only if its pictures are there. Raises
        UserError if a picture is in the way that eosvos did not write, or that was changed since, and if
        there are results of the same video in another format.
        """
        entry, begun = self._entry(sequence.name), self._begun(sequence, overlay)
        begun = replace(begun, fingerprint=self._fingerprint(sequence))
        same, wanted = entry.fingerprint == begun.fingerprint, set(begun.pictures) <= set(entry.pictures)
        if entry.record is not None and self._is_whole(sequence.name, entry) and same and wanted:
            return replace(entry.record, finished_before=True)
        if entry == begun and self.state_path(sequence.name).is_file():
            return None
        if same and not set(self._begun(sequence, overlay=False).pictures) <= set(entry.pictures):
            raise UserError(
                f"results={self.root} holds {sequence.name} in another results_format: choose another "
                "folder, or set overwrite=true to compute all anew"
            )
        if entry.record is not None and not same:
            _log.warning(
                "%s in results=%s is of other frames, masks or settings, and computed anew",
                sequence.name,
                self.root,
            )
        self._check_ours(begun.files, entry.files)
        self._remove_files(sequence.name, entry.files)
        remove([self.submission, *(self.root / name for name in self.tables)])
        self._write_entry(sequence.name, begun)
        return None

    def _is_whole(self, name: str, entry: Entry) -> bool:
        """Whether all pictures of a finished sequence are there; raises UserError if they were changed."""
        if not all((self.root / picture).is_file() for picture in entry.pictures):
            return False
        if self._digest(entry.pictures) != entry.digest:
            raise UserError(
                f"results={self.root}: pictures of {name} were changed after they were written: "
                "move them away, or set overwrite=true to compute all anew"
            )
        return True

    def finish(self, record: SequenceRecord) -> None:
        """Mark a sequence that was begun, and whose pictures are all written, as finished."""
        entry = self._entry(record.sequence)
        self._remove_files(record.sequence, entry.temporary)
        entry = replace(entry, temporary=(), record=record, digest=self._digest(entry.pictures))
        self._write_entry(record.sequence, entry)

    def write_frame(self, sequence: str, frame_name: str, labels: Tensor) -> None:
        """Write the label map uint8 [H, W] of object ids as RESULTS/sequence/frame_name.png."""
        write_labels(self.labels_path(sequence, frame_name), labels)

    def labels_path(self, sequence: str, frame_name: str) -> Path:
        """Where the label map of a frame belongs, if only until the sequence is finished."""
        return self.root / sequence / f"{frame_name}.png"

    def state_path(self, sequence: str) -> Path:
        """Where the state of an unfinished sequence belongs."""
        return self.root / f"{sequence}{STATE}"

    def frame_path(self, sequence: str, frame_name: str) -> Path | None:
        """Where the picture of a frame belongs; None if there is none in the folder's format."""
        suffix = {"overlay": None, "cutout": ".cutout.png"}.get(self.format, ".png")
        return self.root / sequence / f"{frame_name}{suffix}" if suffix else None

    def overlay_video_path(self, sequence: str) -> Path | None:
        """Where the overlay video of a sequence belongs; None if there is none in the folder's format."""
        return self.root / f"{sequence}{OVERLAY_VIDEO}" if self.format in ("overlay", "both") else None

    def overlay_path(self, sequence: str) -> Path:
        """Where the overlay strip of a sequence belongs."""
        return self.root / f"{sequence}{OVERLAY}"

    def write_tables(self, records: Sequence[SequenceRecord]) -> None:
        """Write the official tool's two CSV files; without scores, delete those that are there."""
        if not any(record.scores for record in records):
            remove(self.root / name for name in self.tables)
            return
        for name, text in zip(self.tables, official_tables(records), strict=True):
            write_whole(self.root / name, text.encode())

    def _check_sequence_names(self, names: Sequence[str]) -> None:
        """Raise UserError unless each of them can name a folder beside the files of the others."""
        _check_names("sequence", names)
        kinds = (OVERLAY, OVERLAY_VIDEO, RECORD, STATE)
        ours = {MANIFEST, *self._of_all, *(name + kind for name in names for kind in kinds)}
        for name in names:
            if name in ours or len(os.fsencode(name)) > _LONGEST:
                reason = "is the name of a file in it" if name in ours else "is too long"
                raise UserError(f"sequence: {name!r} cannot name a folder of results, it {reason}: rename it")

    @property
    def _of_all(self) -> tuple[str, ...]:
        """Names of the files that are of all sequences together."""
        return *self.tables, self.submission.name

    def _digest(self, pictures: Iterable[str]) -> str:
        """Of the content of pictures in the folder."""
        digest = hashlib.sha256()
        for name in pictures:
            digest.update(file_digest(self.root / name))
        return digest.hexdigest()

    def _fingerprint(self, sequence: VideoSequence) -> str:
        """Of all that the results of a sequence depend on."""
        return hashlib.sha256((self._made_by + sequence.fingerprint()).encode()).hexdigest()

    def _begun(self, sequence: VideoSequence, overlay: bool) -> Entry:
        """The entry of a sequence that is begun, without its fingerprint."""
        name = sequence.name
        pictures = [self.frame_path(name, frame) for frame in sequence.result_names]
        if overlay:
            pictures += [self.overlay_path(name), self.overlay_video_path(name)]
        wanted = self._names(path for path in pictures if path is not None)
        labels = [self.labels_path(name, frame) for frame in sequence.frame_names]
        known = set(wanted)
        needed = self._names([*labels, self.state_path(name)])
        return Entry("", wanted, tuple(file for file in needed if file not in known))

    def _names(self, paths: Iterable[Path]) -> tuple[str, ...]:
        """Names of files in the folder."""
        return tuple(path.relative_to(self.root).as_posix() for path in paths)

    def _check_ours(self, names: Iterable[str], listed: Collection[str]) -> None:
        """Raise UserError for the first file that is there but not listed as written by eosvos."""
        ours = set(listed)
        for path in (self.root / name for name in names if name not in ours):
            if os.path.lexists(path):
                raise UserError(
                    f"results={self.root} holds {path}, which eosvos did not write: "
                    "choose another folder, or move it away"
                )

    def _remove_files(self, sequence: str, names: Iterable[str]) -> None:
        remove(self.root / name for name in names)
        # It stays if there is anything else in it.
        with suppress(OSError):
            (self.root / sequence).rmdir()

    def _forget(self, manifest: Mapping[str, Any]) -> None:
        """Delete all that is listed, each list after what is on it."""
        for sequence in self._recorded():
            self._remove_files(sequence, self._entry(sequence).files)
            remove([self.root / f"{sequence}{RECORD}"])
        remove(self.root / name for name in manifest.get("tables", ()))

    def _recorded(self) -> list[str]:
        """Names of the sequences that have a record here."""
        return [path.name.removesuffix(RECORD) for path in self.root.glob(f"*{RECORD}")]

    def _entry(self, sequence: str) -> Entry:
        """What is known of a sequence. Raises UserError if its file is not of eosvos."""
        path = self.root / f"{sequence}{RECORD}"
        if not os.path.lexists(path):
            return Entry()
        try:
            values = json.loads(path.read_text())
            record = None if values["record"] is None else SequenceRecord.from_json(values["record"])
            # Older records list no temporary files.
            files = tuple(values["pictures"]), tuple(values.get("temporary", ()))
            entry = Entry(values["fingerprint"], *files, record, values["digest"])
            for name in entry.files:
                mask = Path(name).parts == (sequence, Path(name).name) and Path(name).suffix == ".png"
                if name not in (sequence + kind for kind in (OVERLAY, OVERLAY_VIDEO, STATE)) and not mask:
                    raise ValueError(f"{name} is no picture of {sequence}")
            if record is not None and record.sequence != sequence:
                raise ValueError(f"it is of {record.sequence}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(_foreign(path)) from error
        return entry

    def _write_entry(self, sequence: str, entry: Entry) -> None:
        write_whole(self.root / f"{sequence}{RECORD}", json.dumps(asdict(entry)).encode())

    def _manifest(self) -> dict[str, Any] | None:
        """The manifest that is there, if any. Raises UserError if it, or a table, is not of eosvos."""
        path = self.root / MANIFEST
        there: dict[str, Any] | None = None
        if os.path.lexists(path):
            try:
                there = json.loads(path.read_text())
                if not all(map(_TABLE.fullmatch, there["tables"])):
                    raise ValueError("others than its tables are on its list")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(_foreign(path)) from error
        self._check_ours(self._of_all, there["tables"] if there else ())
        return there


def davis_palette() -> np.ndarray:
    """The colours of object ids, uint8 [256, 3] RGB: DAVIS uses those of Pascal VOC.

    The three lowest bits of an id are the highest bits of red, green and blue, the next three bits their
    second, etc.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (((ids >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def write_labels(path: str | Path, labels: Tensor) -> None:
    """Write a label map uint8 [H, W] of object ids as a PNG with the DAVIS palette."""
    image = Image.fromarray(labels.cpu().numpy())
    image.putpalette(davis_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_whole(Path(path), buffer.getvalue())


def written_labels(path: Path) -> NDArray[np.uint8]:
    """The label map uint8 [H, W] that `write_labels` has written, whatever it looks like.

    Raises UserError if it is missing or broken.
    """
    with naming_broken_file(path), Image.open(path) as image:
        return np.array(image)


def differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    """Say where two nested settings differ, with dotted keys."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield f"{key or 'manifest'} is {there!r} there and {here!r} here"


def _check_names(what: str, names: Sequence[str]) -> None:
    """Raise UserError unless each name can be that of a file of its own in one folder."""
    seen: set[str] = set()
    for name in names:
        if name in ("", ".", "..") or Path(name).name != name or "\0" in name:
            raise UserError(f"{what}: {name!r} cannot name a file in the results folder: rename it")
        if name in seen:
            raise UserError(f"{what}: {name!r} comes twice, but names one place of results: leave one out")
        seen.add(name)


def _foreign(path: Path) -> str:
    return f"{path} is not as this version of eosvos writes it: choose another folder, or move it away"
