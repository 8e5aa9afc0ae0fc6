import pickle
import shutil

import pytest
import torch

from eosvos.config.data import Tasks
from eosvos.data.files import FileSequence
from eosvos.data.sequence import VideoSequence, visible_objects
from eosvos.data.task_source import check_query_frames, list_objects
from eosvos.errors import UserError


class Masks(VideoSequence):
    """A sequence of given masks; counts how many were read."""

    def __init__(self, masks, name="masks"):
        self.name, self.masks, self.reads = name, masks, 0
        self.frame_names = tuple(f"{t:05d}" for t in range(len(masks)))

    @property
    def size(self):
        return (1, 3)

    @property
    def annotated_frames(self):
        return tuple(t for t, mask in enumerate(self.masks) if mask is not None)

    def image(self, t):
        return torch.zeros(3, 1, 3, dtype=torch.uint8)

    def mask(self, t):
        self.reads += 1
        mask = self.masks[t]
        return None if mask is None else torch.tensor(mask, dtype=torch.uint8)


def a_sequence():
    return Masks([[[0, 0, 7]], None, [[3, 255, 0]], [[3, 7, 0]], [[0, 0, 255]]])


def test_objects_and_their_frames_follow_from_the_masks():
    sequence = a_sequence()
    assert sequence.num_frames == 5
    assert sequence.object_ids == (3, 7)
    assert (sequence.first_frame(3), sequence.first_frame(7)) == (2, 0)


def test_first_frame_stops_reading_where_the_object_appears_and_remembers_it():
    sequence = a_sequence()
    assert sequence.first_frame(7) == sequence.first_frame(7) == 0
    assert sequence.reads == 1


def test_masks_are_read_once_for_all_questions():
    sequence = a_sequence()
    assert (sequence.first_frame(7), sequence.object_ids, sequence.first_frame(3)) == (0, (3, 7), 2)
    assert sequence.reads == 4


def test_first_frame_of_an_object_that_is_never_shown():
    with pytest.raises(UserError, match="no mask of sequence masks shows object 5"):
        a_sequence().first_frame(5)


def test_frames_are_numbered_by_their_names_if_all_are_numbers():
    sequence = a_sequence()
    assert sequence.frame_numbers == (0, 1, 2, 3, 4)
    sequence.frame_names = ("00000", "00005", "00010", "00015", "00030")
    assert sequence.frame_numbers == (0, 5, 10, 15, 30)
    sequence.frame_names = ("0", "5", "10", "15", "last")
    assert sequence.frame_numbers == (0, 1, 2, 3, 4)


def test_sequences_can_be_pickled_with_what_they_know():
    sequence = a_sequence()
    assert sequence.object_ids == pickle.loads(pickle.dumps(sequence)).object_ids


def test_visible_objects_leaves_out_background_and_ignored_pixels():
    assert visible_objects(torch.tensor([[0, 255, 2], [9, 2, 0]], dtype=torch.uint8)) == [2, 9]
    assert visible_objects(None) == []


def test_every_object_is_listed_once():
    first, second = a_sequence(), Masks([[[1, 0, 0]]], "other")
    objects = list_objects([first, second])
    assert [(sequence.name, i) for sequence, i in objects] == [("masks", 3), ("masks", 7), ("other", 1)]


def test_videos_without_objects_are_refused():
    with pytest.raises(UserError, match="no annotated object"):
        list_objects([Masks([[[0, 0, 0]]])])


def test_what_a_video_is_read_from(tmp_path):
    frames, masks = [tmp_path / f"frames/dog/{t}.jpg" for t in (0, 1)], tmp_path / "masks/dog"
    assert Masks([[[1]]]).folders == ()
    one = FileSequence("dog", frames, {1: masks / "1.png"})
    assert one.folders == (tmp_path / "frames/dog", masks / "1.png")
    two = FileSequence("dog", frames, {0: masks / "0.png", 1: masks / "1.png"})
    assert two.folders == (tmp_path / "frames/dog", masks)
    two.folder_per_video = True
    assert two.folders == (tmp_path / "frames/dog", masks, tmp_path / "frames", tmp_path / "masks")


OBJECT, NONE = [[1, 0, 0]], None


def test_more_query_frames_than_a_video_has_are_refused():
    videos = [Masks([OBJECT] * 4, "long"), Masks([OBJECT, NONE, OBJECT, NONE], "short")]
    check_query_frames(videos, Tasks(query_frames=2))
    with pytest.raises(UserError, match=r"query_frames=3, but sequence short has masks for 2"):
        check_query_frames(videos, Tasks(query_frames=3))


@pytest.mark.parametrize(
    ("masks", "window", "words"),
    [
        ([OBJECT, NONE, NONE], None, "no training video has two frames with masks, so"),
        ([OBJECT, NONE, OBJECT], 1, r"within frame_window=1, so"),
    ],
)
def test_videos_without_another_frame_to_learn_from_are_refused_or_counted(masks, window, words, caplog):
    with pytest.raises(UserError, match=words):
        check_query_frames([Masks(masks), Masks(masks)], Tasks(frame_window=window))
    check_query_frames([Masks(masks, "lone"), Masks([OBJECT, OBJECT])], Tasks(frame_window=window))
    (record,) = caplog.records
    assert record.getMessage().startswith("1 of 2 training videos do not have two")
    assert record.getMessage().endswith(": lone")


def test_the_numbers_of_a_long_video_are_read_off_its_frames_once():
    class Counted(Masks):
        asked = 0

        @property
        def frame_numbers(self):
            self.asked += 1
            return super().frame_numbers

    video = Counted([OBJECT] * 50)
    check_query_frames([video], Tasks(frame_window=1))
    assert video.asked == 1


def test_a_fingerprint_is_of_what_is_seen_wherever_it_lies(disk, labels, tmp_path):
    frame, mask = disk.frame("a.png", (24, 32)), disk.mask("m.png", labels(4))
    moved = tmp_path / "elsewhere"
    shutil.copytree(disk.root, moved)
    same = FileSequence("s", [frame], {0: mask}).fingerprint()
    assert FileSequence("s", [moved / frame.name], {0: moved / mask.name}).fingerprint() == same
    others = [
        FileSequence("s", [frame], {}),
        FileSequence("s", [frame], {0: mask}, merge_objects=True),
        FileSequence("s", [frame], {0: mask}, short_side=12),
        FileSequence("s", [frame, disk.frame("b.png", (24, 32))], {0: mask}),
        FileSequence("s", [frame], {0: disk.mask("other.png", labels(5))}),
        FileSequence("s", [disk.frame("a2.png", (24, 32), 99)], {0: mask}),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == 7


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("name", None),
        ("frame_names", None),
        ("frame_names", (0, 1)),
        ("size", None),
        ("size", (3, 2, 2)),
        ("size", (2.0, 2.0)),
        ("annotated_frames", None),
        ("annotated_frames", (1, 0)),
        ("annotated_frames", (0.0,)),
    ],
)
def test_what_a_video_says_of_itself_is_checked_first(what, value):
    odd = type("Odd", (Masks,), {what: value})([[[0, 1, 0]]] * 2)
    vars(odd)[what] = value
    with pytest.raises(UserError, match=f"{what} must be .*, not "):
        _ = odd.object_ids
