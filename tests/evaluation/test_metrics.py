"""J and F against the official tool's numbers, and against a plain re-implementation of their definitions."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from eosvos.data.sequence import can_be_scored
from eosvos.evaluation.metrics import (
    Statistics,
    boundary_accuracy,
    evaluate_sequence,
    region_similarity,
    scored_frames,
    statistics,
)

TOLERANCE = 1e-6


# ---------------------------------------------------------------- the official tool's numbers


def read_masks(folder: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def assert_equals_official(score, expected) -> None:
    for measure, found, per_frame in (
        ("J", score.region, score.region_per_frame),
        ("F", score.boundary, score.boundary_per_frame),
    ):
        np.testing.assert_allclose(per_frame, expected[f"{measure}_per_frame"], atol=TOLERANCE, rtol=0)
        for name in ("mean", "recall", "decay"):
            assert getattr(found, name) == pytest.approx(expected[measure][name], abs=TOLERANCE)


def assert_global_equals_official(scores, expected) -> None:
    for measure, attribute in (("J", "region"), ("F", "boundary")):
        for name in ("mean", "recall", "decay"):
            found = np.mean([getattr(getattr(score, attribute), name) for score in scores])
            assert found == pytest.approx(expected[measure][name], abs=TOLERANCE)


def official_scores(
    make_sequence, annotations: Path, predictions: Path, expected: dict, single: bool
) -> list:
    everything = []
    for name, objects in expected["sequences"].items():
        masks, labels = read_masks(annotations / name), read_masks(predictions / name)
        if single:
            masks = [mask != 0 for mask in masks]
        scores = evaluate_sequence(make_sequence(masks, name), map(torch.from_numpy, labels))
        if single:
            objects = {"1": objects}
        assert [str(score.object_id) for score in scores] == list(objects)
        for score in scores:
            assert_equals_official(score, objects[str(score.object_id)])
        everything += scores
    return everything


def test_davis_2016_equals_the_official_tool(shared, make_sequence):
    folder = shared / "goldens/davis_metrics/single"
    expected = json.loads((folder / "expected.json").read_text())
    annotations = folder / expected["annotations"]
    scores = official_scores(make_sequence, annotations, folder / "predictions", expected, single=True)
    assert_global_equals_official(scores, expected["global_"])


def test_davis_2017_equals_the_official_tool(shared, make_sequence):
    folder = shared / "goldens/davis_metrics/multi"
    expected = json.loads((folder / "expected.json").read_text())
    scores = official_scores(
        make_sequence, folder / "annotations", folder / "predictions", expected, single=False
    )
    assert len(scores) == 13
    assert any(score.region.mean == 0 for score in scores), (
        "the golden with an object that is never predicted"
    )
    assert_global_equals_official(scores, expected["global_"])


# ---------------------------------------------------------------- a plain re-implementation


def plain_j(one: np.ndarray, other: np.ndarray) -> float:
    both = sum(bool(a) and bool(b) for a, b in zip(one.flat, other.flat, strict=True))
    either = sum(bool(a) or bool(b) for a, b in zip(one.flat, other.flat, strict=True))
    return both / either if either else 1.0


def plain_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    """Pixels that differ from a neighbour to the right, below, or right below, as far as there is one."""
    height, width = mask.shape
    boundary = []
    for y in range(height):
        for x in range(width):
            if y == height - 1 and x == width - 1:
                continue
            if y == height - 1:
                neighbours = [(y, x + 1)]
            elif x == width - 1:
                neighbours = [(y + 1, x)]
            else:
                neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(mask[neighbour] != mask[y, x] for neighbour in neighbours):
                boundary.append((y, x))
    return boundary


def plain_f(one: np.ndarray, other: np.ndarray, bound_th: float) -> float:
    reach = math.ceil(bound_th * math.sqrt(one.shape[0] ** 2 + one.shape[1] ** 2))

    def matched(points, targets):
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in targets) for y, x in points)

    found, truth = plain_boundary(one), plain_boundary(other)
    if not found and not truth:
        return 1.0
    if not found or not truth:
        return 0.0
    precision, recall = matched(found, truth) / len(found), matched(truth, found) / len(truth)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rectangles(shape: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    """A mask of one box, anywhere, the image's borders included."""
    height, width = shape
    rows = st.tuples(st.integers(0, height), st.integers(0, height)).map(sorted)
    columns = st.tuples(st.integers(0, width), st.integers(0, width)).map(sorted)

    def fill(box) -> np.ndarray:
        mask = np.zeros(shape, bool)
        mask[slice(*box[0]), slice(*box[1])] = True
        return mask

    return st.tuples(rows, columns).map(fill)


def masks_of(shape: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    constant = st.sampled_from([np.zeros(shape, bool), np.ones(shape, bool)])
    return st.one_of(constant, rectangles(shape), hnp.arrays(bool, shape))


@st.composite
def mask_triples(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 14)))
    return draw(masks_of(shape)), draw(masks_of(shape)), draw(masks_of(shape))


@settings(max_examples=200, deadline=None)
@given(mask_triples(), st.sampled_from([0.008, 0.08, 0.15, 0.3]))
def test_any_masks_equal_the_plain_definitions(triple, bound_th):
    one, other, _ = triple
    assert region_similarity(one[None], other[None])[0] == pytest.approx(plain_j(one, other), abs=1e-12)
    found = boundary_accuracy(one[None], other[None], bound_th=bound_th)[0]
    assert found == pytest.approx(plain_f(one, other, bound_th), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(mask_triples())
def test_ignored_pixels_count_nowhere(triple):
    one, other, ignore = triple
    kept_one, kept_other = one & ~ignore, other & ~ignore
    found_j = region_similarity(one[None], other[None], ignore[None])[0]
    found_f = boundary_accuracy(one[None], other[None], ignore[None])[0]
    assert found_j == pytest.approx(plain_j(kept_one, kept_other), abs=1e-12)
    assert found_f == pytest.approx(plain_f(kept_one, kept_other, 0.008), abs=1e-12)
    # What is predicted under ignored pixels changes nothing.
    flipped = np.where(ignore, ~one, one)
    assert region_similarity(flipped[None], other[None], ignore[None])[0] == found_j
    assert boundary_accuracy(flipped[None], other[None], ignore[None])[0] == found_f


@settings(max_examples=50, deadline=None)
@given(mask_triples())
def test_measures_are_symmetric_bounded_and_one_for_equal_masks(triple):
    one, other, _ = triple
    for measure in (region_similarity, boundary_accuracy):
        value = measure(one[None], other[None])[0]
        assert 0 <= value <= 1
        assert value == pytest.approx(measure(other[None], one[None])[0], abs=1e-12)
        assert measure(one[None], one[None])[0] == 1


def test_a_large_image_uses_a_disk_of_the_official_radius():
    """480x854: ceil(0.008 * diagonal) = 8 pixels: a square moved by 8 matches, one moved by 9 does not."""
    annotation, near, far = np.zeros((3, 480, 854), bool)
    annotation[100:300, 100:300] = True
    near[100:300, 108:308] = True
    far[100:300, 109:309] = True
    values = boundary_accuracy(np.stack([near, far]), np.stack([annotation, annotation]))
    assert values[0] == 1
    assert 0.5 < values[1] < 1


def test_frames_are_measured_each_for_itself():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 5, 20, 30)) > 0.4
    for measure in (region_similarity, boundary_accuracy):
        values = measure(one, other)
        assert values.shape == (5,)
        assert values.dtype == np.float64
        np.testing.assert_array_equal(
            values, [measure(one[t : t + 1], other[t : t + 1])[0] for t in range(5)]
        )


# ---------------------------------------------------------------- statistics


def test_statistics_of_known_values():
    values = np.array([1.0, 1.0, 0.8, 0.8, 0.5, 0.5, 0.2, 0.0])
    found = statistics(values)
    assert found.mean == pytest.approx(0.6)
    assert found.recall == 0.5  # 0.5 itself is not above 0.5
    # Frames 1, 2.75, 4.5, 6.25, 8 rounded are 1, 3, 5, 6, 8: the bins at the ends are frames 1..3 and 6..8.
    assert found.decay == pytest.approx((1 + 1 + 0.8) / 3 - (0.5 + 0.2 + 0.0) / 3)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 300])
def test_decay_of_a_falling_line_is_its_drop_between_the_outer_bins(length):
    values = np.linspace(1, 0, length)
    # Halves round up.
    edges = [math.floor(1 + (length - 1) * quarter / 4 + 0.5 + 1e-9) for quarter in range(5)]
    expected = values[: edges[1]].mean() - values[edges[3] - 1 :].mean()
    assert statistics(values).decay == pytest.approx(expected)


def test_no_frame_gives_nan():
    found = statistics(np.array([]))
    assert all(math.isnan(value) for value in (found.mean, found.recall, found.decay))


def test_constant_values_do_not_decay():
    assert statistics(np.full(17, 0.7)) == Statistics(pytest.approx(0.7), 1.0, pytest.approx(0))


# ---------------------------------------------------------------- whole sequences


def tensors(masks):
    return [torch.from_numpy(mask) for mask in masks]


def test_the_annotation_itself_scores_one(two_squares):
    scores = evaluate_sequence(two_squares, tensors(two_squares.masks))
    assert [score.object_id for score in scores] == [1, 2]
    for score in scores:
        assert score.region_per_frame == score.boundary_per_frame == (1.0,) * 4
        assert score.region.mean == score.boundary.mean == score.region.recall == 1


def test_first_and_last_frame_do_not_count(two_squares):
    labels = [np.zeros((40, 60), np.uint8), *two_squares.masks[1:-1], np.zeros((40, 60), np.uint8)]
    assert all(score.region.mean == 1 for score in evaluate_sequence(two_squares, tensors(labels)))


def test_never_predicted_object_and_empty_frames(two_squares):
    labels = [np.where(mask == 2, 2, 0).astype(np.uint8) for mask in two_squares.masks]
    labels[2][:] = 0
    first, second = evaluate_sequence(two_squares, tensors(labels))
    assert first.region.mean == first.boundary.mean == 0
    assert second.region_per_frame == second.boundary_per_frame == (1.0, 0.0, 1.0, 1.0)
    assert second.region.recall == 0.75


def test_an_object_that_is_gone_counts_one_if_nothing_is_predicted(two_squares, make_sequence):
    masks = [mask.copy() for mask in two_squares.masks]
    for mask in masks[3:]:
        mask[mask == 1] = 0
    labels = [mask.copy() for mask in masks]
    labels[4][0, 0] = 1
    first, _ = evaluate_sequence(make_sequence(masks), tensors(labels))
    assert first.region_per_frame == (1.0, 1.0, 1.0, 0.0)


def test_pixels_of_value_255_are_ignored(two_squares, make_sequence):
    masks = [mask.copy() for mask in two_squares.masks]
    for mask in masks:
        mask[:, 40:] = 255
    labels = [np.where(mask == 255, 1, mask).astype(np.uint8) for mask in masks]
    scores = evaluate_sequence(make_sequence(masks), tensors(labels))
    assert [score.object_id for score in scores] == [1, 2]
    assert all(score.region.mean == score.boundary.mean == 1 for score in scores)


def test_only_annotated_frames_that_were_not_handed_out_count(two_squares, make_sequence):
    masks = two_squares.masks
    partly = make_sequence([masks[0], None, masks[2], None, masks[4], masks[5]])
    assert scored_frames(partly) == (2, 4)
    late = [np.where(mask == 2, 0, mask) for mask in masks[:3]] + masks[3:]
    assert scored_frames(make_sequence(late)) == (1, 2, 4)
    empty = np.zeros_like(masks[0])
    assert scored_frames(make_sequence([empty, empty, *masks[2:]])) == (3, 4)


def test_a_video_without_a_frame_to_score_is_known_once_its_masks_are_read(two_squares, make_sequence):
    masks = two_squares.masks
    one = np.where(masks[0] == 2, 0, masks[0])
    assert not can_be_scored(make_sequence([masks[0], None, masks[2]]))
    assert not can_be_scored(make_sequence([masks[0], None, None, masks[3]]))
    assert can_be_scored(make_sequence([masks[0], masks[1], masks[2]]))
    # The second mask is the first of the second object.
    late = make_sequence([one, masks[1], None])
    assert can_be_scored(late)
    assert late.object_ids == (1, 2)
    assert not can_be_scored(late)


def test_a_late_object_counts_from_the_frame_after_its_first(two_squares, make_sequence):
    masks = two_squares.masks
    late = make_sequence([np.where(mask == 2, 0, mask) for mask in masks[:3]] + masks[3:])
    never_found = [np.where(mask == 2, 0, mask).astype(np.uint8) for mask in late.masks]
    first, second = evaluate_sequence(late, tensors(never_found))
    assert first.region_per_frame == (1.0, 1.0, 1.0)
    assert second.region_per_frame == second.boundary_per_frame == (0.0,)
    # One that appears in the last frame leaves nothing to score.
    last = make_sequence([np.where(mask == 2, 0, mask) for mask in masks[:-1]] + masks[-1:])
    assert [score.object_id for score in evaluate_sequence(last, tensors(last.masks))] == [1]


@pytest.mark.parametrize("annotated", [1, 2])
def test_without_ground_truth_there_are_no_scores(two_squares, make_sequence, annotated):
    """Only the first mask, as in DAVIS test-dev, or two frames, of which first and last do not count."""
    frames = two_squares.masks[:annotated] if annotated == 2 else [two_squares.masks[0], None, None, None]
    sequence = make_sequence(frames)
    labels = tensors([np.zeros((40, 60), np.uint8)] * sequence.num_frames)
    assert evaluate_sequence(sequence, labels) is None


def test_labels_are_taken_one_at_a_time(two_squares):
    """A generator is run through once, to its end, even where there is nothing to score."""
    taken = []

    def stream():
        for t, mask in enumerate(two_squares.masks):
            taken.append(t)
            yield torch.from_numpy(mask)

    assert evaluate_sequence(two_squares, stream())
    assert taken == list(range(6))


@pytest.mark.parametrize("count", [5, 7])
def test_missing_or_left_over_label_maps_are_an_error(two_squares, count):
    labels = tensors((two_squares.masks * 2)[:count])
    with pytest.raises((ValueError, IndexError)):
        evaluate_sequence(two_squares, labels)


def test_a_label_map_of_another_size_is_an_error(two_squares):
    with pytest.raises(ValueError, match="squares: label map 0"):
        evaluate_sequence(two_squares, [torch.zeros(40, 59, dtype=torch.uint8)])
