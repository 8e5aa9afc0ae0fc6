"""Small data sets on disk, made for one test."""

from pathlib import Path

import numpy as np
from PIL import Image


class Disk:
    """Writes frames and masks below a folder; `frame` and `mask` return the file's path."""

    def __init__(self, root: Path):
        self.root = root

    def frame(self, name, size=(24, 32), value=100):
        return self._save(name, Image.new("RGB", size[::-1], (value, 50, 200)))

    def mask(self, name, labels, mode="P"):
        labels = np.asarray(labels, np.uint8)
        image = Image.fromarray(labels)
        if mode == "P":
            image = image.convert("P")
            image.putdata(labels.ravel().tolist())
            image.putpalette([i // 3 for i in range(768)])
        elif mode != "L":
            image = image.convert(mode)
        return self._save(name, image)

    def _save(self, name, image):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    def text(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path
