"""Still pictures with masks: sources of tasks whose frames are warped copies of one picture."""

from collections.abc import Mapping
from pathlib import Path

from eosvos.config.data import VOC2012, Images
from eosvos.data.defects import check_headers
from eosvos.data.files import FileSequence
from eosvos.data.layouts import (
    build_each,
    existing_folder,
    files_by_stem,
    no_frames_message,
    read_text,
    select_names,
    subfolders,
)
from eosvos.data.split_file import select
from eosvos.errors import UserError

_REMEDY = "set root to a folder that holds images and masks, or to a folder of such folders"
_VOC_REMEDY = "set root to VOCdevkit/VOC2012, which holds JPEGImages, SegmentationObject and ImageSets"


class Still(FileSequence):
    """A picture and its mask: a video of one frame."""

    still = True

    def __init__(
        self,
        name: str,
        image: Path,
        mask: Path,
        merge_objects: bool = False,
        short_side: int | None = None,
    ) -> None:
        super().__init__(name, [image], {0: mask}, merge_objects, short_side)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the picture and of the mask."""
        return self.frames[0].parent, self.masks[0].parent


def image_stills(settings: Images, defects: dict[str, str] | None = None) -> list[Still]:
    """Return the pictures of all sets, their headers checked; they are called SET/NAME, or NAME.

    Values of palette and grey masks are object ids, 255 is ignored; with single_object, all that is not black
    is object 1.
    defects: if given, it takes the message for each picture that cannot be listed, by name, and no file is
    opened.
    Raises UserError for a missing folder, an unknown name, or the first defect of a file.
    """
    top = existing_folder(settings.root, _REMEDY)
    pairs: dict[str, tuple[Path, Path | None]] = {}
    for prefix, folder in _sets(top, settings.sets).items():
        pairs |= {prefix + stem: pair for stem, pair in _pairs(folder).items()}

    def still(name: str) -> Still:
        image, mask = pairs[name]
        if mask is None:
            raise UserError(
                f"the picture {image} has no mask {image.stem}.png in {image.parent.with_name('masks')}: "
                "add one, or take the picture away"
            )
        return Still(name, image, mask, settings.single_object, settings.short_side)

    found = build_each(still, select(settings, pairs, "picture", str(top)), defects)
    if defects is None:
        check_headers(found)
    return found


def voc_stills(settings: VOC2012, defects: dict[str, str] | None = None) -> list[Still]:
    """Return the pictures of a list of Pascal VOC 2012, their headers checked; the rim, 255, is ignored.

    defects: as in image_stills. Raises UserError for a missing folder or list, an unknown name, or the first
    defect of a file.
    """
    top = existing_folder(settings.root, _VOC_REMEDY)
    images = existing_folder(top / "JPEGImages", _VOC_REMEDY)
    masks = existing_folder(top / "SegmentationObject", _VOC_REMEDY)
    path = top / "ImageSets/Segmentation" / f"{settings.split}.txt"
    listed = read_text(path).split()
    if not listed:
        raise UserError(f"{path} names no picture: restore the official list")
    found = [
        Still(name, images / f"{name}.jpg", masks / f"{name}.png", short_side=settings.short_side)
        for name in select(settings, listed, "picture", str(path))
    ]
    if defects is None:
        check_headers(found)
    return found


def _sets(top: Path, wanted: list[str] | None) -> dict[str, Path]:
    """The folders that hold images and masks, by what precedes the names of their pictures."""
    there = subfolders(top)
    if "images" in there:
        if wanted is not None:
            raise UserError(f"sets={wanted}, but {top} is a set itself: leave sets out")
        return {"": top}
    names = select_names(
        wanted, [name for name in there if (top / name / "images").is_dir()], "set", str(top)
    )
    if not names:
        raise UserError(f"the folder {top} holds neither images nor folders with images: {_REMEDY}")
    return {f"{name}/": top / name for name in names}


def _pairs(folder: Path) -> Mapping[str, tuple[Path, Path | None]]:
    """The pictures of a set, each with its mask, by name."""
    images = files_by_stem(folder / "images")
    if not images:
        raise UserError(no_frames_message(folder / "images", "no pictures", "add some, or take the set away"))
    top = existing_folder(folder / "masks", "add masks named as their pictures")
    masks = files_by_stem(top, [".png"])
    for stem in masks.keys() - images.keys():
        raise UserError(
            f"the mask {masks[stem]} has no picture in {folder / 'images'}: take one of them away"
        )
    return {stem: (path, masks.get(stem)) for stem, path in images.items()}
