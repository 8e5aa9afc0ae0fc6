"""Data sets: where their videos lie, and how tasks are drawn from them."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from eosvos.config.setting import Location, Settings


class Augmentation(Settings):
    """Random changes to the frames of a task (method, section 5)."""

    #: Probability of a horizontal flip, the same for all frames of a task.
    flip: float = Field(0.5, ge=0, le=1)
    #: Largest rotation about the centre, either way, degrees.
    rotation: float = Field(30.0, ge=0, le=180)
    #: Smallest and largest factor of the object's size.
    scale_min: float = Field(0.75, gt=0)
    scale_max: float = Field(1.25, gt=0)
    #: Largest change of brightness, contrast and saturation, as a share; the same for all frames of a task.
    brightness: float = Field(0.2, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, le=1)
    saturation: float = Field(0.2, ge=0, le=1)
    #: Largest shift of the hue, in turns of the colour circle; the same for all frames of a task.
    hue: float = Field(0.1, ge=0, le=0.5)
    #: Probability that the frames show an object of another training video, too, by copy and paste.
    copy_paste: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _scales(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min={self.scale_min} is above scale_max={self.scale_max}")
        return self


class Tasks(Settings):
    """How few-shot tasks are drawn from the training videos (method, section 5)."""

    #: Query frames of a task, on which the adapted network is judged.
    query_frames: int = Field(1, ge=1)
    #: Largest distance of a query frame from the support frame, by the numbers that name frames; null: any.
    frame_window: int | None = Field(None, ge=0)
    #: Random changes to the frames of a task; null: none.
    augment: Augmentation | None = Augmentation()


class Synthetic(Settings):
    """Procedural videos, which need no download."""

    target: ClassVar[str] = "eosvos.data.synthetic.synthetic_videos"
    of_part: ClassVar[frozenset[str]] = frozenset({"split", "num_videos"})
    #: Which videos: those of train, val and test never meet.
    split: Literal["train", "val", "test"] = "train"
    #: How many videos; null: a million, as fresh ones for every task.
    num_videos: int | None = Field(None, ge=1, le=1_000_000)
    #: Height and width of a frame, pixels.
    size: list[Annotated[int, Field(ge=32)]] = Field([96, 128], min_length=2, max_length=2)
    #: Frames of a video.
    num_frames: int = Field(10, ge=2)
    #: Most objects with a mask; each video has between one and so many.
    max_objects: int = Field(3, ge=1, le=3)
    #: Seed of the family of videos.
    seed: int = Field(0, ge=0)


class Files(Settings):
    """Videos in files."""

    #: Names of the videos that are used; null: all.
    sequences: list[str] | None = Field(None, min_length=1)
    #: Shorter side to which larger frames are reduced when read, pixels; null: as they are.
    short_side: int | None = Field(None, ge=16)


class Davis(Files):
    """DAVIS 2016 or 2017 in its official layout."""

    target: ClassVar[str] = "eosvos.data.davis.davis_sequences"
    of_part: ClassVar[frozenset[str]] = frozenset({"split"})
    #: The folder that holds JPEGImages, Annotations and ImageSets.
    root: Location
    #: 2016 has one object a video, 2017 several.
    year: Annotated[Literal["2016", "2017"], BeforeValidator(str)] = "2017"
    #: The folder of that name in JPEGImages and Annotations: 480p, 1080p or Full-Resolution.
    resolution: str = "480p"
    #: A list in ImageSets, such as train, val or test-dev; null: all videos in the folder.
    split: str | None = None


class YouTubeVOS(Files):
    """YouTube-VOS in its official layout."""

    target: ClassVar[str] = "eosvos.data.youtube_vos.youtube_vos_sequences"
    of_part: ClassVar[frozenset[str]] = frozenset({"part"})
    #: The folder that holds train and valid.
    root: Location
    #: The folder below root: train, valid, test or valid_all_frames.
    split: str = "train"
    #: Of split train: the videos that are held_out, balanced over categories, or fit, the others; null: all.
    part: Literal["fit", "held_out"] | None = None
    #: How many videos are held out, and the seed that chooses them.
    held_out: int = Field(100, ge=1)
    seed: int = Field(0, ge=0)


class Folder(Files):
    """Folders of frames and masks."""

    target: ClassVar[str] = "eosvos.data.folder.folder_sequences"
    #: A folder of frames, or of one such folder for each video.
    images: Location
    #: A folder of PNG masks named as their frames (or of such folders), or one PNG, of the first frame.
    masks: Location
    #: Names of the frames whose masks are used; null: all that have one.
    annotated: list[str] | None = Field(None, min_length=1)
