"""The page to draw on: what eosvos-app reads."""

from pydantic import Field

from eosvos.config.setting import Location, Settings


class App(Settings):
    """The page on which a video is chosen, masks are drawn, and the objects are followed."""

    checkpoint: Location = "small"
    """Weights that videos are segmented with: file, folder, name, hf://OWNER/NAME."""
    trusted: list[str] = Field(default_factory=list)
    """Packages beside eosvos whose networks the checkpoint may ask for."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Fixes everything that is drawn at random."""
    output: Location
    """The folder that uploaded files, masks and overlays are written into, and nothing outside of it."""
    host: str = "127.0.0.1"
    """The address that the page has; 0.0.0.0 lets everyone in the network use it, without a password."""
    port: int = Field(7860, ge=1, le=65535)
    """Its port."""
    max_frames: int = Field(5000, ge=1)
    """The longest video, frames."""
    max_megabytes: int = Field(1000, ge=1)
    """The largest file, megabytes."""
    max_side: int = Field(4096, ge=16)
    """The longest side of a video, pixels."""
