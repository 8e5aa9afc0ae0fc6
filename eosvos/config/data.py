"""Data sets: where their videos lie, and how tasks are drawn from them."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from eosvos.config.setting import Location, Settings


class Augmentation(Settings):
    """Random changes to the frames of a task (method, section 5)."""

    in_order: ClassVar[tuple[str, ...]] = ("scale_min", "scale_max")

    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip, the same for all frames of a task."""
    rotation: float = Field(30.0, ge=0, le=180)
    """Largest rotation about the centre, either way, degrees."""
    scale_min: float = Field(0.75, gt=0)
    """Smallest factor of the object's size."""
    scale_max: float = Field(1.25, gt=0)
    """Largest factor of the object's size."""
    shift: float = Field(0.0, ge=0, le=1)
    """Largest shift along each axis, either way, as a share of height and width; before the picture is
    scaled, turned and sheared, and the shift with it.
    """
    shear: float = Field(0.0, ge=0, le=60)
    """Largest shear, either way, degrees."""
    elastic: float = Field(0.0, ge=0, le=0.5)
    """Largest displacement of the points of a smooth random field, as a share of the shorter side."""
    brightness: float = Field(0.2, ge=0, le=1)
    """Largest change of the brightness, as a share; the same for all frames of a task."""
    contrast: float = Field(0.2, ge=0, le=1)
    """The same of the contrast."""
    saturation: float = Field(0.2, ge=0, le=1)
    """The same of the saturation."""
    hue: float = Field(0.1, ge=0, le=0.5)
    """Largest shift of the hue, in turns of the colour circle; the same for all frames of a task."""
    frame_colours: float = Field(0.0, ge=0, le=1)
    """Share of these changes of colour by which the frames of a task may differ, too."""
    copy_paste: float = Field(0.0, ge=0, le=1)
    """Probability that the frames show an object of another training video, too, by copy and paste."""


class Tasks(Settings):
    """How few-shot tasks are drawn from the training videos (method, section 5); augment=null: unchanged."""

    query_frames: int = Field(1, ge=1)
    """Query frames of a task, on which the adapted network is judged."""
    frame_window: int | None = Field(None, ge=0)
    """Largest distance of a query frame from the support frame, by the frames' numbers; null: any."""
    object_groups: float = Field(0.0, ge=0, le=1)
    """Of tasks from videos with several objects, the share whose object is a random sub-group of them."""
    single_object_videos: Literal["keep", "ignore", "only", "augment"] = "keep"
    """Videos with one object: keep, ignore, only (no others), or augment: an object of another covers it."""
    no_label: float = Field(0.0, ge=0, le=1)
    """Share of the tasks whose masks show no object; for networks without boxes."""
    label_inversion: float = Field(0.0, ge=0, le=1)
    """Share of the other tasks in which object and background change places; for networks without boxes."""
    crop: list[Annotated[int, Field(ge=16)]] | None = Field(None, min_length=2, max_length=2)
    """Height and width that larger frames are cropped to at random around the object, pixels; null: any."""
    augment: Augmentation | None = Augmentation()
    """Random changes to the frames of a task; null: none."""

    def of_single_frames(self, all_objects: bool) -> Self:
        """The same without query frames, and without what only a support frame tells: which object is meant.

        all_objects: all of a frame are, those pasted into it, too.
        """
        plain: dict[str, Any] = {
            "query_frames": 0,
            "object_groups": 0.0,
            "no_label": 0.0,
            "label_inversion": 0.0,
        }
        if self.single_object_videos == "augment" and not all_objects:
            plain["single_object_videos"] = "keep"
        if self.augment and not all_objects:
            plain["augment"] = self.augment.model_copy(update={"copy_paste": 0.0})
        return self.model_copy(update=plain)


PARTS = ("train", "val", "test")
"""What the videos of a data set are for."""


class Synthetic(Settings):
    """Procedural videos, which need no download."""

    group: ClassVar[str] = "dataset"
    target: ClassVar[str] = "eosvos.data.synthetic.synthetic_videos"
    of_part: ClassVar[frozenset[str]] = frozenset({"split", "num_videos"})
    split: Literal["train", "val", "test"] = "train"
    """Which videos: those of train, val and test never meet."""
    num_videos: int | None = Field(None, ge=1, le=1_000_000)
    """How many videos; null: a million, as fresh ones for every task."""
    size: list[Annotated[int, Field(ge=32)]] = Field([96, 128], min_length=2, max_length=2)
    """Height and width of a frame, pixels."""
    num_frames: int = Field(10, ge=2)
    """Frames of a video."""
    max_objects: int = Field(3, ge=1, le=3)
    """Most objects with a mask; each video has between one and so many."""
    seed: int = Field(0, ge=0)
    """Seed of the family of videos."""


class Files(Settings):
    """Videos in files."""

    group: ClassVar[str] = "dataset"
    of_part: ClassVar[frozenset[str]] = frozenset({"split_part"})
    split_file: Location | None = None
    """A file that `python -m eosvos.data split` has written: videos are those of a part of it; null: all."""
    split_part: Literal["train", "val", "test"] = "train"
    """The part of that file."""
    sequences: list[str] | None = Field(None, min_length=1)
    """Names of the videos that are used; null: all."""
    short_side: int | None = Field(None, ge=16)
    """Shorter side to which larger frames are reduced when read, pixels; null: as they are."""

    @property
    def whole(self) -> bool:
        """Whether it is all videos, in their own size, as benchmarks and their servers want them."""
        return self.sequences is None and self.short_side is None


class Davis(Files):
    """DAVIS 2016 or 2017 in its official layout."""

    target: ClassVar[str] = "eosvos.data.davis.davis_sequences"
    of_part: ClassVar[frozenset[str]] = Files.of_part | {"split"}
    root: Location
    """The folder that holds JPEGImages, Annotations and ImageSets."""
    year: Annotated[Literal["2016", "2017"], BeforeValidator(str)] = "2017"
    """2016 has one object a video, 2017 several."""
    resolution: str = "480p"
    """The folder of that name in JPEGImages and Annotations: 480p, 1080p or Full-Resolution."""
    split: str | None = None
    """A list in ImageSets, such as train, val or test-dev; null: all videos in the folder."""

    @property
    def has_server(self) -> bool:
        """Whether an evaluation server takes masks of these videos."""
        of_server = self.split in ("test-dev", "test-challenge") and self.resolution == "480p"
        return self.year == "2017" and of_server and self.whole

    @property
    def has_official_scores(self) -> bool:
        """Whether the official tool reads these videos and their masks."""
        with_masks = self.split in ("train", "val") and self.resolution == "480p"
        return self.year == "2017" and with_masks and self.short_side is None


class YouTubeVOS(Files):
    """YouTube-VOS in its official layout."""

    target: ClassVar[str] = "eosvos.data.youtube_vos.youtube_vos_sequences"
    of_part: ClassVar[frozenset[str]] = Files.of_part | {"part"}
    root: Location
    """The folder that holds train and valid."""
    split: str = "train"
    """Folder below root: train, valid, test; or train_all_frames etc., with the masks and lists of train."""
    part: Literal["fit", "held_out"] | None = None
    """Of split train: the videos that are held_out, balanced over categories, or fit, the others; null: all.
    A split_file takes its place.
    """
    held_out: int = Field(100, ge=1)
    """How many training videos are held out."""
    seed: int = Field(0, ge=0)
    """The seed that chooses them."""

    @property
    def masks_split(self) -> str:
        """The folder below root of meta.json, of the masks, and of the frames that results are wanted for."""
        return self.split.removesuffix("_all_frames")

    @property
    def has_server(self) -> bool:
        """Whether an evaluation server takes masks of these videos."""
        return self.masks_split in ("valid", "test") and self.whole


class Folder(Files):
    """Folders of frames and masks."""

    target: ClassVar[str] = "eosvos.data.folder.folder_sequences"
    root: Location | None = None
    """A folder with JPEGImages/VIDEO and Annotations/VIDEO; null: images and masks say where these are."""
    images: Location | None = None
    """A folder of frames, or of one such folder for each video; null: ROOT/JPEGImages."""
    masks: Location | None = None
    """A folder of PNG masks named as their frames (or of such folders), or one PNG, of the frame of its
    name or number, else of the first; null:
    ROOT/Annotations.
    """
    annotated: list[str] | None = Field(None, min_length=1)
    """Names of the frames whose masks are used; null: all that have one."""
    divide: list[Annotated[float, Field(gt=0)]] | None = Field(None, min_length=2, max_length=2)
    """Without a split_file, how many videos val and test get at random, or, below 1, what share; a single
    video is divided in time, by its masks. null: every part has all.
    """
    divide_seed: int = Field(0, ge=0)
    """The seed of that division."""

    @property
    def is_divided(self) -> bool:
        """Whether `divide` says which videos a part has."""
        return self.divide is not None and self.split_file is None

    @model_validator(mode="after")
    def _places(self) -> Self:
        if self.root is None and (self.images is None or self.masks is None):
            raise ValueError("it needs images and masks, or root, the folder of both: give them")
        return self


class Video(Files):
    """Video files: mp4, mov, mkv, avi, webm, gif."""

    target: ClassVar[str] = "eosvos.data.video.video_sequences"
    video: Location
    """A video file, or a folder of video files."""
    masks: Location
    """A PNG mask, or a folder of masks named by the numbers of their frames, the first of which is 0; of a
    folder of videos, a folder that holds either, VIDEO.png or VIDEO, for each.
    """
    mask_frame: int | None = Field(None, ge=0)
    """The number of the frame that a single mask is of; null: its name, if that is a number and not that of
    the video, too; else 0.
    """


class Images(Files):
    """Still images with masks."""

    target: ClassVar[str] = "eosvos.data.stills.image_stills"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    root: Location
    """A folder with images and masks in it, or a folder of such folders, called sets."""
    sets: list[str] | None = Field(None, min_length=1)
    """Names of the sets that are used; null: all."""
    single_object: bool = False
    """Any pixel of a mask that is not black belongs to the one object, white ones (255) too, which are else
    ignored.
    """


class VOC2012(Files):
    """Pascal VOC 2012, the pictures with segmented objects, in its official layout."""

    target: ClassVar[str] = "eosvos.data.stills.voc_stills"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    root: Location
    """The folder that holds JPEGImages, SegmentationObject and ImageSets."""
    split: Literal["train", "val", "trainval"] = "train"
    """A list in ImageSets/Segmentation."""


class Coco(Files):
    """Pictures with the instances of a JSON file in COCO's format."""

    target: ClassVar[str] = "eosvos.data.coco.coco_stills"
    splits: ClassVar[tuple[str, ...]] = ("train",)
    images: Location
    """The folder of the pictures."""
    annotations: Location
    """The JSON file."""
    min_area: float = Field(1024.0, ge=0)
    """Smallest area of an instance, pixels; COCO calls what is below 1024 small."""
