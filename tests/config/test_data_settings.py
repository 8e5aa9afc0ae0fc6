"""Values that the declarations of data sets refuse."""

import pytest

from eosvos.config.data import Augmentation, Davis, Folder, Synthetic, YouTubeVOS

FOLDER = {"images": "frames", "masks": "masks"}


@pytest.mark.parametrize(
    ("declared", "values", "words"),
    [
        (Augmentation, {"flip": 2}, "flip"),
        (Augmentation, {"rotation": -1}, "rotation"),
        (Augmentation, {"scale_min": 0}, "scale_min"),
        (Augmentation, {"scale_min": 2}, "scale_min=2.0 is above scale_max=1.25"),
        (Augmentation, {"contrast": -0.1}, "contrast"),
        (Augmentation, {"hue": 0.6}, "hue"),
        (Augmentation, {"copy_paste": 1.1}, "copy_paste"),
        (Synthetic, {"size": [16, 128]}, "size"),
        (Synthetic, {"size": [96]}, "size"),
        (Synthetic, {"num_frames": 0}, "num_frames"),
        (Synthetic, {"max_objects": 4}, "max_objects"),
        (Synthetic, {"split": "dev"}, "'train', 'val' or 'test'"),
        (Synthetic, {"num_videos": -1}, "num_videos"),
        (Synthetic, {"num_videos": 1_000_001}, "num_videos"),
        (Davis, {"root": "x", "year": "2018"}, "'2016' or '2017'"),
        (Davis, {"root": "x", "sequences": []}, "sequences"),
        (YouTubeVOS, {"root": "x", "sequences": []}, "sequences"),
        (YouTubeVOS, {"root": "x", "part": "held-out"}, "'fit' or 'held_out'"),
        (YouTubeVOS, {"root": "x", "part": "fit", "held_out": 0}, "held_out"),
        (Folder, {**FOLDER, "sequences": []}, "sequences"),
        (Folder, {**FOLDER, "annotated": []}, "annotated"),
    ],
)
def test_impossible_settings_of_data_are_refused(declared, values, words):
    with pytest.raises(ValueError, match=words):
        declared(**values)
