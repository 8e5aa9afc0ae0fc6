"""Objects as data sets have them, from files to tasks, masks, scores and tables: many, late, any ids."""

import csv
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from eosvos.config.data import Folder, Tasks
from eosvos.config.inference import Finetune
from eosvos.data.folder import folder_sequences
from eosvos.data.sequence import VideoSequence
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import TaskSampler
from eosvos.evaluation.results import ResultsFolder, davis_palette
from eosvos.evaluation.scoring import fill_folder
from eosvos.inference.predictor import Predictor
from eosvos.models.segmenter import Batch, Features, Segmenter

FIRST = (1, 3, 200, *range(30, 52))
LATE, LAST, FRAMES = 77, 254, 5
"""25 objects share the first frame, one appears in the third, and one in the last."""


class ByColour(Segmenter):
    """Finds the pixels of one colour."""

    def __init__(self, colour: Tensor | None = None) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.colour = colour

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def features(self, images: Tensor) -> Features:
        return Features({"images": images}, tuple(images.shape[-2:]))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        image = features.maps["images"][index]
        return ((image - self.colour[:, None, None]).abs().amax(0) < 1e-3).float()

    def head_parameters(self) -> list[nn.Parameter]:
        return []


class ColourAdapter:
    """Adapts to the colour of the object in the annotated frame."""

    segmenter = ByColour()

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        image, mask = next((images[0], masks[0]) for images, masks in batches)
        return ByColour(image[:, mask == 1].mean(1))

    def with_fixed_lr(self, lr: float) -> "ColourAdapter":
        raise NotImplementedError


def labels_of(t: int) -> np.ndarray:
    """Objects in cells of 8x8 pixels, which move to the right, frame by frame."""
    labels = np.zeros((40, 64), np.uint8)
    shown = [*FIRST, *([LATE] if t >= 2 else []), *([LAST] if t == FRAMES - 1 else [])]
    for object_id in shown:
        row, column = divmod([*FIRST, LATE, LAST].index(object_id), 8)
        labels[8 * row : 8 * row + 5, 8 * column + t : 8 * column + t + 4] = object_id
    return labels


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> VideoSequence:
    root = tmp_path_factory.mktemp("crowd")
    for t in range(FRAMES):
        labels = labels_of(t)
        frame = np.stack([labels, 255 - labels, labels // 2], axis=2)
        for part, picture in (("frames", Image.fromarray(frame)), ("masks", Image.fromarray(labels))):
            (root / part).mkdir(exist_ok=True)
            if part == "masks":
                picture.putpalette(davis_palette().tobytes())
            picture.save(root / part / f"{t:05d}.png")
    [video] = folder_sequences(Folder(images=str(root / "frames"), masks=str(root / "masks")))
    return video


def test_every_object_is_followed_to_the_end_and_scored_from_the_frame_after_its_first(video, tmp_path):
    assert video.object_ids == tuple(sorted([*FIRST, LATE, LAST]))
    folder = ResultsFolder(tmp_path, "val")
    folder.open({})
    predictor = Predictor(ColourAdapter(), Finetune(steps=1, augment=False))
    [record] = fill_folder(folder, predictor, [video])
    for t, name in enumerate(video.frame_names):
        with Image.open(tmp_path / video.name / f"{name}.png") as picture:
            assert picture.mode == "P"
            assert np.array_equal(np.array(picture.getpalette()).reshape(-1, 3), davis_palette())
            assert np.array_equal(np.array(picture), labels_of(t))
    # Nothing is left to find of what appears in the last frame, and that frame does not count.
    scores = {score.object_id: score for score in record.scores}
    assert sorted(scores) == sorted([*FIRST, LATE])
    assert {score.region.mean for score in scores.values()} == {1.0}
    assert len(scores[200].boundary_per_frame) == 2
    assert len(scores[LATE].boundary_per_frame) == 1
    assert record.num_objects == predictor.timing.adaptations == 27
    with open(tmp_path / "per-sequence_results-val.csv") as table:
        named = {line["Sequence"] for line in csv.DictReader(table)}
    assert named == {f"{video.name}_{object_id}" for object_id in scores}
    assert folder.overlay_path(video.name).exists()


def test_every_object_is_trained_on_and_one_of_the_last_frame_has_the_same_frame_as_query(video):
    sampler = TaskSampler([TrainingSet([video])], Tasks(augment=None, query_frames=2), 27)
    tasks = {task.object_id: task for task in (sampler.sample(0, slot) for slot in range(27))}
    assert sorted(tasks) == sorted([*FIRST, LATE, LAST])
    for object_id, task in tasks.items():
        for images, masks in (
            (task.support_images, task.support_masks),
            (task.query_images, task.query_masks),
        ):
            assert torch.equal(masks == 1, (images[:, 0] * 255).round() == object_id)
            assert (masks == 1).flatten(1).sum(1).tolist() == [20] * len(masks)
    last = tasks[LAST]
    assert torch.equal(last.query_images, last.support_images.expand(2, -1, -1, -1))
