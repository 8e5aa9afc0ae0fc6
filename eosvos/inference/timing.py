"""The seconds that a video takes."""

from dataclasses import dataclass


@dataclass
class Timing:
    """Seconds that a video took so far: the adaptations of all objects (to annotated frames and online), and
    the propagation to the other frames.

    steps: its frames so far. frames: those that an object was propagated to. diverged: adaptations that have
    left weights that are not finite.
    """

    adaptation_seconds: float = 0.0
    adaptations: int = 0
    propagation_seconds: float = 0.0
    frames: int = 0
    steps: int = 0
    diverged: int = 0

    @property
    def seconds_per_adaptation(self) -> float:
        """Seconds of one adaptation of one object, on average; 0 if there was none."""
        return self.adaptation_seconds / max(self.adaptations, 1)

    @property
    def seconds_per_frame(self) -> float:
        """Seconds of one propagated frame, all objects together, on average; 0 if there was none."""
        return self.propagation_seconds / max(self.frames, 1)

    @property
    def seconds_per_step(self) -> float:
        """Seconds of one frame, adaptations included, on average; 0 before the first."""
        return (self.adaptation_seconds + self.propagation_seconds) / max(self.steps, 1)
