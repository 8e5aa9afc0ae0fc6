import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eosvos.config.data import Augmentation
from eosvos.data.augment import augment_frame, augment_task

STILL = Augmentation(
    flip=0, rotation=0, scale_min=1, scale_max=1, brightness=0, contrast=0, saturation=0, hue=0
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def a_frame(seed=0, size=(24, 32)):
    """A noisy image, and a mask with an object of 4x5 pixels and some ignored ones."""
    image = torch.rand(3, *size, generator=generator(seed))
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[6:10, 20:25] = 1
    mask[12:14, :8] = 255
    return image, mask


def painted(mask):
    """An image whose red channel shows the object."""
    return torch.stack([(mask == 1).float(), torch.zeros(mask.shape), torch.zeros(mask.shape)])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    box=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_any_object_remains_visible_and_values_stay_in_range(seed, size, box):
    rows = sorted(int(x * (size[0] - 1)) for x in box[:2])
    columns = sorted(int(x * (size[1] - 1)) for x in box[2:])
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[-1] = 255
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = 1
    image = torch.rand(3, *size, generator=generator(seed))
    results = augment_task([(image, mask)] * 2, generator(seed), Augmentation())
    for new_image, new_mask in [*results, augment_frame(image, mask, generator(seed))]:
        assert new_image.shape == image.shape
        assert new_mask.shape == mask.shape
        assert new_mask.dtype == torch.uint8
        assert set(new_mask.unique().tolist()) <= {0, 1, 255}
        assert int((new_mask == 1).sum()) >= 0.25 * int((mask == 1).sum())
        assert (new_mask == 1).any()
        assert float(new_image.min()) >= 0
        assert float(new_image.max()) <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_image_and_mask_move_together(seed):
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    mask[10:30, 20:50] = 1
    image, moved = augment_frame(painted(mask), mask, generator(seed))
    shown = image[0] > 0.5
    assert int((shown & (moved == 1)).sum()) / int((shown | (moved == 1)).sum()) > 0.9


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_one_flip_for_all_frames_of_a_task(seed):
    image, mask = a_frame()
    config = STILL.model_copy(update={"flip": 0.5})
    results = augment_task([(image, mask)] * 3, generator(seed), config)
    flipped = torch.equal(results[0][1], mask.flip(-1))
    expected = (image.flip(-1), mask.flip(-1)) if flipped else (image, mask)
    for new_image, new_mask in results:
        torch.testing.assert_close(new_image, expected[0], atol=1e-5, rtol=0)
        assert torch.equal(new_mask, expected[1])


def test_about_half_of_the_draws_are_flipped():
    _, mask = a_frame()
    config = Augmentation(rotation=0, scale_min=1, scale_max=1)
    flips = [
        torch.equal(augment_frame(painted(mask), mask, generator(s), config)[1], mask.flip(-1))
        for s in range(200)
    ]
    assert 70 < sum(flips) < 130


def test_nothing_to_do_leaves_frames_as_they_are():
    image, mask = a_frame()
    ((new_image, new_mask),) = augment_task([(image, mask)], generator(), STILL)
    torch.testing.assert_close(new_image, image, atol=1e-5, rtol=0)
    assert torch.equal(new_mask, mask)


def test_scale_changes_the_area_of_the_object():
    mask = torch.zeros(60, 80, dtype=torch.uint8)
    mask[20:40, 30:50] = 1
    for scale in (0.8, 1.25):
        config = Augmentation(flip=0, rotation=0, scale_min=scale, scale_max=scale)
        area = int((augment_frame(painted(mask), mask, generator(), config)[1] == 1).sum())
        assert area == pytest.approx(400 * scale**2, rel=0.1)


def test_rotation_keeps_shapes_on_wide_frames():
    mask = torch.zeros(60, 120, dtype=torch.uint8)
    mask[25:35, 40:80] = 1
    config = Augmentation(flip=0, rotation=30, scale_min=1, scale_max=1)
    for seed in range(10):
        area = int((augment_frame(painted(mask), mask, generator(seed), config)[1] == 1).sum())
        assert area == pytest.approx(400, rel=0.05)


def test_a_frame_keeps_its_colours_and_a_task_shares_their_change():
    image = torch.full((3, 16, 16), 0.5) * torch.tensor([1.0, 0.8, 0.4])[:, None, None]
    mask = torch.ones(16, 16, dtype=torch.uint8)
    config = Augmentation(rotation=0, scale_min=1, scale_max=1)
    torch.testing.assert_close(augment_frame(image, mask, generator(), config)[0], image)
    first, second = augment_task([(image, mask)] * 2, generator(), config)
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(first[0], image, atol=0.01)


def test_frames_of_a_task_are_rotated_and_scaled_independently():
    first, second = augment_task([a_frame()] * 2, generator(), Augmentation())
    assert not torch.equal(first[1], second[1])


def test_what_comes_in_from_outside_is_black_background():
    mask = torch.ones(40, 40, dtype=torch.uint8)
    config = Augmentation(flip=0, rotation=0, scale_min=0.8, scale_max=0.8)
    image, mask = augment_frame(torch.ones(3, 40, 40), mask, generator(), config)
    assert int(mask[0, 0]) == 0
    assert float(image[:, 0, 0].max()) == 0


def test_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    augment_task([a_frame()], generator(), Augmentation())
    assert torch.equal(torch.random.get_rng_state(), state)


WARPS = {"shift": 0.2, "shear": 30.0, "elastic": 0.05}


@pytest.mark.parametrize("name", WARPS)
def test_image_and_mask_are_warped_together_and_anew_for_each_frame(name):
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    mask[14:34, 20:50] = 1
    config = STILL.model_copy(update={name: WARPS[name]})
    first, second = augment_task([(painted(mask), mask)] * 2, generator(1), config)
    for image, moved in (first, second):
        shown = image[0] > 0.5
        assert int((shown & (moved == 1)).sum()) / int((shown | (moved == 1)).sum()) > 0.9
        assert not torch.equal(moved, mask)
    assert not torch.equal(first[1], second[1])


def centre(mask):
    return (mask == 1).nonzero().float().mean(0)


def test_shifts_are_shares_of_height_and_width():
    mask = torch.zeros(80, 160, dtype=torch.uint8)
    mask[36:44, 72:88] = 1
    config = STILL.model_copy(update={"shift": 0.25})
    moves = torch.stack(
        [centre(augment_frame(painted(mask), mask, generator(s), config)[1]) for s in range(100)]
    ) - centre(mask)
    reach = moves.abs().max(0).values / torch.tensor([80, 160])
    assert ((reach > 0.22) & (reach < 0.26)).all()


def test_shear_keeps_areas_and_slants():
    mask = torch.zeros(80, 160, dtype=torch.uint8)
    mask[20:60, 70:90] = 1
    config = STILL.model_copy(update={"shear": 40.0})
    sheared = [augment_frame(painted(mask), mask, generator(s), config)[1] for s in range(20)]
    assert all(int((one == 1).sum()) == pytest.approx(800, rel=0.06) for one in sheared)
    offsets = [float(centre(one[55:])[1] - centre(one[:25])[1]) for one in sheared]
    assert 15 < max(offsets) < 34 * 0.84 + 2
    assert -34 * 0.84 - 2 < min(offsets) < -15


def test_the_elastic_field_moves_points_by_a_share_of_the_shorter_side_at_most():
    x = torch.linspace(0, 1, 120).expand(3, 80, 120)
    mask = torch.ones(80, 120, dtype=torch.uint8)
    config = STILL.model_copy(update={"elastic": 0.1})
    for seed in range(5):
        image, _ = augment_frame(x, mask, generator(seed), config)
        moved = (image - x)[:, 12:-12, 14:-14].abs() * 119
        assert 1 < moved.max() < 0.1 * 80 * 1.3
        assert moved.diff(dim=1).abs().max() < 1.5, "a smooth field"


def test_a_share_of_the_change_of_colours_is_drawn_for_each_frame():
    image = torch.full((3, 16, 16), 0.5) * torch.tensor([1.0, 0.8, 0.4])[:, None, None]
    mask = torch.ones(16, 16, dtype=torch.uint8)
    config = STILL.model_copy(update={"brightness": 0.4, "frame_colours": 0.25})
    for seed in range(10):
        ratios = [
            float((new / image).mean())
            for new, _ in augment_task([(image, mask)] * 2, generator(seed), config)
        ]
        assert ratios[0] != ratios[1]
        assert 0.9 / 1.1 < ratios[0] / ratios[1] < 1.1 / 0.9
