"""Data sets in their official layouts, small, and made of noise."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    image = image.convert("P") if path.suffix == ".png" else image
    image.save(path)


def video(frames: Path, masks: Path, light: int, shift: int, names: Iterable[str]) -> None:
    """Noise around a lightness, with two objects that are seen in every mask."""
    labels = np.zeros((32, 48), np.uint8)
    labels[6:16, 4 + shift : 16 + shift], labels[20:30, 24:40] = 1, 2
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
            video(*folders, light + more + 20 * number, light // 20, [f"{t:05d}" for t in range(3)])


def youtube_vos(root: Path, light: int) -> None:
    frames = [f"{t:05d}" for t in range(3)]
    for split, names in (("train", [f"v{i}" for i in range(8)]), ("valid", ["w0", "w1"])):
        objects = {str(i): {"category": f"kind{i}", "frames": frames} for i in (1, 2)}
        (root / split).mkdir(parents=True, exist_ok=True)
        meta = {"videos": {name: {"objects": objects} for name in names}}
        (root / split / "meta.json").write_text(json.dumps(meta))
        for number, name in enumerate(names):
            folders = (root / split / part / name for part in ("JPEGImages", "Annotations"))
            video(*folders, light + 20 * number, light // 20, frames)
