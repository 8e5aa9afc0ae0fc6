"""How a procedural video looks: textured bodies move, turn, deform and hide one another over a moving ground.

Positions and lengths are in units of the frame's shorter side, angles in radians, speeds per frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Numbers = NDArray[np.float64]

_HARMONICS = np.arange(2, 6)
_OUTLINE = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_FRACTION_BITS = 4  # sub-pixel precision of the outlines
_MIN_VISIBLE_AT_START = 0.5  # share of an object's silhouette that the first frame must show


def _texture(rng: Generator, side: tuple[int, int], colour: Numbers, contrast: float) -> Image:
    """Smooth noise around an RGB colour [3]: uint8 [h, w, 3] for side (h, w)."""
    noise = np.zeros((*side, 3), np.float32)
    for cells, weight in ((4, 1.0), (8, 0.7), (16, 0.5)):
        light = rng.standard_normal((cells, cells, 1), np.float32)
        grid = light + 0.6 * rng.standard_normal((cells, cells, 3), np.float32)
        noise += weight * cv2.resize(grid, side[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(colour + contrast * noise, 0, 255).astype(np.uint8)


def _turn(angle: float, zoom: float, source: Numbers, target: Numbers) -> Numbers:
    """Matrix [2, 3] that turns by `angle`, scales by `zoom`, and takes point `source` to `target` (x, y)."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, target - linear @ source])


def _colour(rng: Generator) -> Numbers:
    return rng.uniform(40, 215, 3)


@dataclass
class Motion:
    """A path that bounces off the frame's border, with a swing, a spin and a slow change of scale."""

    start: Numbers
    velocity: Numbers
    swing: Numbers
    pace: float
    phase: float
    angle: float
    spin: float
    zoom: float

    @classmethod
    def draw(cls, rng: Generator, start: Numbers, speed: tuple[float, float]) -> "Motion":
        """Draw a motion that begins at `start` (x, y) with a speed from the given range."""
        heading = rng.uniform(0, 2 * np.pi)
        velocity = rng.uniform(*speed) * np.array([np.cos(heading), np.sin(heading)])
        return cls(
            start=start,
            velocity=velocity,
            swing=rng.uniform(0, 0.05, 2),
            pace=rng.uniform(0.3, 0.7),
            phase=rng.uniform(0, 2 * np.pi),
            angle=rng.uniform(0, 2 * np.pi),
            spin=rng.uniform(-0.15, 0.15),
            zoom=rng.uniform(0, 0.3),
        )

    def at(self, t: int, extent: Numbers) -> tuple[Numbers, float, float]:
        """Return position (x, y), angle and scale in frame t; the centre stays inside `extent` (x, y)."""
        wave = np.sin(self.pace * t + self.phase) - np.sin(self.phase)
        margin = 0.08
        room = extent - 2 * margin
        way = self.start + self.velocity * t + self.swing * wave - margin
        position = margin + room - np.abs(np.mod(way, 2 * room) - room)
        return position, self.angle + self.spin * t, float(np.exp(self.zoom * wave))


@dataclass
class Body:
    """A textured shape whose outline changes; `label` is its object id, 0 for a distractor or an occluder."""

    label: int
    colour: Numbers
    texture: Image
    radius: float
    stretch: float
    amplitudes: Numbers
    phases: Numbers
    speeds: Numbers
    motion: Motion

    @classmethod
    def draw(
        cls, rng: Generator, label: int, colour: Numbers, radius: float, short_side: int, motion: Motion
    ) -> "Body":
        """Draw texture and outline of a body of the given mean colour (RGB, 0..255)."""
        side = max(8, int(3 * radius * short_side))
        return cls(
            label=label,
            colour=colour,
            texture=_texture(rng, (side, side), colour, rng.uniform(14, 34)),
            radius=radius,
            stretch=rng.uniform(0.6, 1.0),
            amplitudes=rng.uniform(0, 0.45, len(_HARMONICS)) / _HARMONICS,
            phases=rng.uniform(0, 2 * np.pi, len(_HARMONICS)),
            speeds=rng.uniform(-0.4, 0.4, len(_HARMONICS)),
            motion=motion,
        )

    def _outline(self, t: int) -> Numbers:
        """Points of the shape in frame t about the origin, unturned: (x, y, 1) in rows, [3, points]."""
        phases = np.outer(_HARMONICS, _OUTLINE) + (self.phases + self.speeds * t)[:, None]
        ray = self.radius * (1 + self.amplitudes @ np.cos(phases))
        x, y = ray * np.cos(_OUTLINE), ray * self.stretch * np.sin(_OUTLINE)
        return np.stack([x, y, np.ones_like(x)])

    def paint(self, t: int, image: Image, labels: Image) -> int:
        """Draw the body of frame t over `image` [H, W, 3] and `labels` [H, W]; return how many pixels."""
        short_side = min(labels.shape)
        position, angle, zoom = self.motion.at(t, np.array(labels.shape[::-1]) / short_side)
        centre = position * short_side
        points = _turn(angle, zoom * short_side, np.zeros(2), centre) @ self._outline(t)
        low = np.maximum(np.floor(points.min(1)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(points.max(1)).astype(int) + 2, labels.shape[::-1])
        if (high <= low).any():
            return 0
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        silhouette = np.zeros(tuple((high - low)[::-1]), np.uint8)
        outline = np.round((points.T - low) * 2**_FRACTION_BITS).astype(np.int32)
        cv2.fillPoly(silhouette, [outline], 1, shift=_FRACTION_BITS)
        middle = np.array(self.texture.shape[1::-1]) / 2
        view = _turn(angle, zoom, middle, centre - low)
        extent = tuple((high - low).tolist())
        skin = cv2.warpAffine(self.texture, view, extent, borderMode=cv2.BORDER_REFLECT_101)
        inside = silhouette.astype(bool)
        image[window][inside] = skin[inside]
        labels[window][inside] = self.label
        return int(inside.sum())


class Scene:
    """Everything that is fixed in one video; frames are painted one at a time, in any order.

    `size` (H, W) in pixels; `objects`: the number of labelled bodies, ids 1 to `objects`.
    """

    def __init__(self, rng: Generator, size: tuple[int, int], objects: int) -> None:
        self.size = size
        self._short_side = min(size)
        self._extent = np.array(size[::-1]) / self._short_side
        self._noise_seed = int(rng.integers(2**62))
        self._objects = objects
        height, width = size
        self._ground = _texture(rng, (int(1.5 * height), int(1.5 * width)), _colour(rng), rng.uniform(20, 40))
        self._camera = Motion.draw(rng, self._extent / 2, (0.0, 0.03))
        self._light = rng.uniform(0, 0.15), rng.uniform(0.2, 0.6), rng.uniform(0, 2 * np.pi)
        self._bodies = self._draw_bodies(rng)
        while not self._all_visible_at_start():
            self._bodies = self._draw_bodies(rng)

    def _draw_bodies(self, rng: Generator) -> list[Body]:
        """Objects and distractors in random order of depth, and sometimes an occluder in front of them."""
        cells = rng.permutation(9)
        bodies: list[Body] = []
        for label in [*range(1, self._objects + 1), *[0] * int(rng.integers(1, 4))]:
            cell = np.array([cells[len(bodies)] % 3, cells[len(bodies)] // 3])
            start = (cell + rng.uniform(0.25, 0.75, 2)) / 3 * self._extent
            twin = bodies[int(rng.integers(self._objects))].colour if label == 0 else _colour(rng)
            colour = np.clip(twin + rng.normal(0, 14, 3), 0, 255)
            motion = Motion.draw(rng, start, (0.02, 0.07))
            bodies.append(Body.draw(rng, label, colour, rng.uniform(0.11, 0.21), self._short_side, motion))
        bodies = [bodies[i] for i in rng.permutation(len(bodies))]
        if rng.uniform() < 0.3:
            motion = Motion.draw(rng, rng.uniform(0, 1, 2) * self._extent, (0.03, 0.08))
            bodies.append(Body.draw(rng, 0, _colour(rng), rng.uniform(0.15, 0.3), self._short_side, motion))
        return bodies

    def _all_visible_at_start(self) -> bool:
        """Whether the first frame shows at least half of the silhouette of every object."""
        labels = np.zeros(self.size, np.uint8)
        image = np.empty((*self.size, 3), np.uint8)
        silhouettes = {body.label: body.paint(0, image, labels) for body in self._bodies}
        shown = np.bincount(labels.ravel(), minlength=self._objects + 1)
        return all(
            shown[i] >= _MIN_VISIBLE_AT_START * silhouettes[i] > 0 for i in range(1, self._objects + 1)
        )

    def render(self, t: int) -> tuple[Image, Image]:
        """Paint frame t: image uint8 [H, W, 3] RGB, and labels uint8 [H, W] of what is visible."""
        height, width = self.size
        labels = np.zeros(self.size, np.uint8)
        position, angle, zoom = self._camera.at(t, self._extent)
        middle = np.array(self._ground.shape[1::-1]) / 2
        view = _turn(0.2 * (angle - self._camera.angle), zoom, middle, position * self._short_side)
        image = cv2.warpAffine(self._ground, view, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        for body in self._bodies:
            body.paint(t, image, labels)
        return self._add_camera_effects(image, t), labels

    def _add_camera_effects(self, image: Image, t: int) -> Image:
        """Lens blur, changing light and sensor noise."""
        strength, pace, phase = self._light
        gain = 1 + strength * np.sin(pace * t + phase)
        noise = np.random.default_rng((self._noise_seed, t)).integers(0, 17, image.shape, np.uint8)
        blurred = cv2.GaussianBlur(image, (3, 3), 0.6)
        return cv2.addWeighted(blurred, gain, noise, 1.0, -8.0)
