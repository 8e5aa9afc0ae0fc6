"""Pictures with instances in COCO's format, each a task."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eosvos.config.data import Coco
from eosvos.data.layouts import build_each, existing_folder, read_text
from eosvos.data.pictures import missing_file_message, read_header, read_image
from eosvos.data.sequence import IGNORE
from eosvos.data.split_file import select
from eosvos.data.stills import Still
from eosvos.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Instance(NamedTuple):
    """An annotation: its number in the file, its polygons or run lengths, and its area in pixels."""

    number: Any
    segmentation: Any
    area: float


class _Picture(NamedTuple):
    """What the file says of a picture: its path, height and width, and its instances from the largest."""

    path: str
    size: tuple[int, int]
    instances: tuple[_Instance, ...]


class CocoStill(Still):
    """A picture whose mask is drawn: object i is the i-th largest instance, which covers larger ones."""

    def __init__(self, name: str, image: Path, file: Path, picture: _Picture, short_side: int | None) -> None:
        super().__init__(name, image, file, short_side=short_side)
        self._picture = picture
        self.lists_no_object = not picture.instances

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder of the picture, and the JSON file, whose folder may hold anything."""
        return self.frames[0].parent, self.masks[0]

    @property
    def training_object_ids(self) -> tuple[int, ...]:
        """Ids of the instances, ascending; draws no mask."""
        return tuple(range(1, len(self._picture.instances) + 1))

    @cached_property
    def _upright(self) -> bool:
        """Whether the sizes in the file are those of the picture as a viewer turns it.

        It is else taken as it is stored, as COCO's own tools do.
        """
        return read_header(self.frames[0], upright=False)[0] != self._picture.size

    @cached_property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the picture, in pixels; raises UserError if it cannot be opened."""
        return read_header(self.frames[0], self._upright)[0]

    def read_picture(self, path: Path) -> NDArray[np.uint8]:
        """Decode the picture: RGB, uint8 [h, w, 3]."""
        return read_image(path, self._upright)

    def read_mask(self, path: Path) -> NDArray[np.uint8]:
        """Draw the mask: ids uint8 [h, w], in the size that the file names."""
        from pycocotools import mask as masks

        height, width = self._picture.size
        labels = np.zeros((height, width), np.uint8)
        for object_id, one in enumerate(self._picture.instances, 1):
            try:
                runs = _runs(one.segmentation, height, width)
                drawn = masks.decode(runs) if runs else np.zeros_like(labels)
                labels[drawn > 0] = object_id
            # pycocotools raises Exception itself.
            except Exception as error:
                raise UserError(
                    f"annotation {one.number} of {path} cannot be drawn ({error}): correct it, or take it out"
                ) from error
        return labels


def coco_stills(settings: Coco, defects: dict[str, str] | None = None) -> list[CocoStill]:
    """Return the pictures of a JSON file in COCO's format; no picture is opened, for they may be 100,000.

    Their names are those of their files without the suffix. Crowds are left out, as are instances below
    min_area and, in a picture of more than 254, the smallest.
    defects: if given, it takes the message for each picture that cannot be listed, by name.
    Raises UserError for a missing folder or file, a file that is not of this format, or an unknown name.
    """
    folder = existing_folder(settings.images, "set images to the folder of the pictures")
    path = Path(settings.annotations)
    pictures = _read(path, path.stat().st_mtime_ns if path.is_file() else 0, settings.min_area)

    def still(name: str) -> CocoStill:
        image = folder / pictures[name].path
        if not image.is_file():
            raise UserError(f"{missing_file_message(image)}; {path} names it")
        return CocoStill(name, image, path, pictures[name], settings.short_side)

    return build_each(still, select(settings, pictures, "picture", str(path)), defects)


@lru_cache(maxsize=2)
def _read(path: Path, modified: int, min_area: float) -> dict[str, _Picture]:
    """Pictures by name; kept until the file is modified, as this takes seconds, and start-up asks twice."""
    try:
        content = json.loads(read_text(path))
        found = defaultdict(list)
        for one in content["annotations"]:
            if not one.get("iscrowd") and (instance := _instance(one)).area >= min_area:
                found[one["image_id"]].append(instance)
        of_file: dict[tuple[str, str], _Picture] = {}
        for image in content["images"]:
            file, size = image["file_name"], (int(image["height"]), int(image["width"]))
            key = str(PurePosixPath(file).with_suffix("")), file
            # A picture may have several ids; an id that is listed twice is one.
            known = of_file.get(key, _Picture(file, size, ()))
            instances = [*known.instances, *found.pop(image["id"], ())]
            largest = sorted(instances, key=lambda one: one.area, reverse=True)[: IGNORE - 1]
            of_file[key] = known._replace(instances=tuple(largest))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read as COCO's images and annotations ({error!r:.200}): restore it"
        ) from error
    if not of_file:
        raise UserError(f"{path} names no picture: restore it")
    pictures: dict[str, _Picture] = {}
    for (name, file), picture in of_file.items():
        twin = pictures.setdefault(name, picture)
        if twin is not picture:
            raise UserError(f"{path} names {twin.path} and {file}, both called {name}: take one of them out")
    return pictures


def _instance(annotation: dict[str, Any]) -> _Instance:
    area = annotation.get("area")
    if area is None:
        area = annotation["bbox"][2] * annotation["bbox"][3]
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        # Arrays take a quarter of the memory of lists. Fewer than three points enclose nothing.
        segmentation = [np.array(polygon, float) for polygon in segmentation if len(polygon) >= 6]
    return _Instance(annotation["id"], segmentation, float(area))


def _runs(segmentation: Any, height: int, width: int) -> Any:
    """Run lengths as pycocotools decodes them, of polygons or others; None where nothing is enclosed."""
    from pycocotools import mask as masks

    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size is {segmentation['size']}, not {[height, width]}")
        compressed = isinstance(segmentation["counts"], str)
        return segmentation if compressed else masks.frPyObjects(segmentation, height, width)
    return masks.merge(masks.frPyObjects(segmentation, height, width)) if segmentation else None
