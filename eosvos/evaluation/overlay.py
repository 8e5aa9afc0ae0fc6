"""Pictures of a segmented video: a few frames side by side, with the objects' masks laid over them."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from eosvos.data.sequence import IGNORE, VideoSequence
from eosvos.evaluation.results import davis_palette
from eosvos.writing import write_whole

Pixels = NDArray[np.uint8]

OPACITY = 0.5
GAP = 4
MARK = (255, 220, 0)


class OverlayStrip:
    """A strip of frames of one video, filled while the video is segmented; holds only the frames it shows.

    The first panel is the first annotated frame with its given mask, marked by a frame; the others are chosen
    evenly from the frames after it, up to the last. Each panel is `height` pixels high.
    """

    def __init__(self, sequence: VideoSequence, panels: int = 5, height: int = 240) -> None:
        self.sequence = sequence
        self.height = height
        start = min(sequence.annotated_frames, default=0)
        self.frames = evenly_chosen(start, sequence.num_frames - 1, panels)
        self._panels: dict[int, Image.Image] = {}

    def add(self, t: int, labels: Tensor) -> None:
        """Take the label map uint8 [H, W] of frame `t`; frames that the strip does not show cost nothing."""
        if t not in self.frames:
            return
        given = t == self.frames[0]
        annotation = self.sequence.checked_mask(t) if given else None
        shown = labels if annotation is None else annotation
        image = self.sequence.checked_image(t).permute(1, 2, 0).numpy()
        panel = Image.fromarray(blend(image, shown.cpu().numpy()))
        width = max(1, round(panel.width * self.height / panel.height))
        panel = panel.resize((width, self.height), Image.Resampling.LANCZOS)
        text = f"{self.sequence.frame_names[t]}: given mask" if given else self.sequence.frame_names[t]
        self._panels[t] = _captioned(panel, text, marked=given)

    def watch(
        self, sequence: VideoSequence, frames: Iterable[tuple[str, Tensor]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Let the segmented frames (name, labels uint8 [H, W]) of the video pass, and take them."""
        for t, (name, labels) in enumerate(frames):
            self.add(t, labels)
            yield name, labels

    def save(self, path: str | Path) -> None:
        """Write the strip, as .png or .jpg, as the suffix says. Raises ValueError if no frame has come."""
        if not self._panels:
            raise ValueError(f"{self.sequence.name}: no frame to show")
        panels = [self._panels[t] for t in sorted(self._panels)]
        width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
        strip = Image.new("RGB", (width, self.height), "white")
        left = 0
        for panel in panels:
            strip.paste(panel, (left, 0))
            left += panel.width + GAP
        buffer = io.BytesIO()
        if Path(path).suffix.lower() in (".jpg", ".jpeg"):
            strip.save(buffer, format="JPEG", quality=90)
        else:
            strip.save(buffer, format="PNG")
        write_whole(Path(path), buffer.getvalue())


def evenly_chosen(first: int, last: int, count: int) -> tuple[int, ...]:
    """At most `count` whole numbers from first to last, evenly apart; both among them if count > 1."""
    chosen = np.linspace(first, last, max(1, count)).round().astype(int)
    return tuple(dict.fromkeys(chosen.tolist()))


def blend(image: Pixels, labels: Pixels) -> Pixels:
    """Colour the objects of a label map uint8 [H, W] in an image uint8 [H, W, 3]: translucent, outlined.

    0 and 255 (ignore) stay as they are. The outline is drawn inside each object, about 0.4 % of the image's
    diagonal wide.
    """
    import cv2

    width = max(1, round(0.004 * np.hypot(*labels.shape)))
    labels = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
    colours = davis_palette()[labels]
    neighbourhood = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    # Where the neighbourhood holds more than one label, the largest and the smallest label in it differ.
    outline = cv2.dilate(labels, neighbourhood) != cv2.erode(labels, neighbourhood)
    weight = np.where(outline, 1.0, OPACITY)[..., None] * (labels > 0)[..., None]
    return (image * (1 - weight) + colours * weight).round().astype(np.uint8)


def _captioned(panel: Image.Image, text: str, marked: bool) -> Image.Image:
    """Write `text` into the lower left corner; a marked panel gets a frame too."""
    draw = ImageDraw.Draw(panel)
    font = ImageFont.load_default(size=max(9, panel.height // 14))
    corner = (panel.height // 24, panel.height - panel.height // 24)
    colour = MARK if marked else "white"
    draw.text(corner, text, font=font, fill=colour, stroke_width=2, stroke_fill="black", anchor="ls")
    if marked:
        draw.rectangle(
            (0, 0, panel.width - 1, panel.height - 1), outline=MARK, width=max(2, panel.height // 60)
        )
    return panel
