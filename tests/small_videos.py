"""Data sets in their official layouts, small, and made of noise."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from PIL import Image


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    image = image.convert("P") if path.suffix == ".png" else image
    image.save(path)


def video(frames: Path, masks: Path, light: int, shift: int, names: Iterable[str], objects: int) -> None:
    """Noise around a lightness, with one or two objects that are seen in every mask."""
    labels = np.zeros((32, 48), np.uint8)
    labels[6:16, 4 + shift : 16 + shift], labels[20:30, 24:40] = 1, 2 * (objects > 1)
    for t, name in enumerate(names):
        noise = np.random.default_rng((light, t)).integers(0, 60, (32, 48, 3), np.uint8)
        save(frames / f"{name}.jpg", noise + np.uint8(light))
        save(masks / f"{name}.png", labels)


def davis(root: Path, light: int) -> None:
    lists = {"train": ["cat", "dog"], "val": ["fox", "hen"], "all": ["cat", "dog", "fox", "hen"]}
    for year in ("2016", "2017"):
        for split, names in lists.items():
            path = root / f"ImageSets/{year}/{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{name}\n" for name in names))
    for resolution, more in (("480p", 0), ("Full-Resolution", 5)):
        for number, name in enumerate(lists["all"]):
            folders = (root / part / resolution / name for part in ("JPEGImages", "Annotations"))
            names = [f"{t:05d}" for t in range(3)]
            video(*folders, light + more + 20 * number, light // 20, names, objects=1 + number % 2)


def videos(root: Path, light: int) -> None:
    """Video files, with folders of masks, and with a single mask for each."""
    for number, name in enumerate(("cat", "dog", "fox", "hen")):
        names = [f"{t:05d}" for t in range(3)]
        folders = root / "frames" / name, root / "masks" / name
        video(*folders, light + 20 * number, light // 20, names, objects=1 + number % 2)
        (root / "videos").mkdir(exist_ok=True)
        with av.open(str(root / f"videos/{name}.mp4"), "w") as out:
            pictures = [Image.open(file) for file in sorted(folders[0].iterdir())]
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
            for picture in pictures:
                out.mux(stream.encode(av.VideoFrame.from_image(picture.convert("RGB"))))
            out.mux(stream.encode())
        (root / "single").mkdir(exist_ok=True)
        shutil.copy(folders[1] / "00000.png", root / f"single/{name}.png")


def youtube_vos(root: Path, light: int) -> None:
    frames = [f"{t:05d}" for t in range(3)]
    for split, names in (("train", [f"v{i}" for i in range(8)]), ("valid", ["w0", "w1"])):
        objects = {str(i): {"category": f"kind{i}", "frames": frames} for i in (1, 2)}
        (root / split).mkdir(parents=True, exist_ok=True)
        single = {"1": objects["1"]}
        meta = {"videos": {name: {"objects": objects if i % 2 else single} for i, name in enumerate(names)}}
        (root / split / "meta.json").write_text(json.dumps(meta))
        for number, name in enumerate(names):
            folders = (root / split / part / name for part in ("JPEGImages", "Annotations"))
            video(*folders, light + 20 * number, light // 20, frames, objects=1 + number % 2)


def stills(root: Path, light: int) -> None:
    for number, name in enumerate(("cats", "dogs")):
        folders = (root / name / part for part in ("images", "masks"))
        video(*folders, light + 20 * number, 3, ["p0", "p1", "p2"], objects=number + 1)


def voc2012(root: Path, light: int) -> None:
    for objects, names in ((1, ["p0"]), (2, [f"p{i}" for i in range(1, 6)])):
        video(root / "JPEGImages", root / "SegmentationObject", light, light // 20, names, objects)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p0\np1\np2\n")
    (lists / "val.txt").write_text("p3\np4\np5\n")


def coco(root: Path, light: int) -> None:
    video(root / "images", root / "unused", light, 0, [f"p{i}" for i in range(3)], objects=2)
    images = [{"id": i, "file_name": f"p{i}.jpg", "height": 32, "width": 48} for i in range(3)]
    annotations = []
    for i in range(3):
        for side in (10 + light // 20, 18)[i == 0 :]:
            square = [side, 4, side + side, 4, side + side, 4 + side, side, 4 + side]
            drawn = {"id": len(annotations), "image_id": i, "segmentation": [square], "area": side * side}
            annotations.append(drawn)
    (root / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def split(path: Path, names: Iterable[str]) -> None:
    path.write_text(
        json.dumps({part: [name] for part, name in zip(("train", "val", "test"), names, strict=True)})
    )
