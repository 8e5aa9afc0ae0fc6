"""The sessions of all who have the page open, by the key of their tab."""

from pathlib import Path
from secrets import token_hex
from threading import Lock

from eosvos.app.session import Session
from eosvos.app.uploads import uploaded_video
from eosvos.config.app import App
from eosvos.errors import UserError
from eosvos.inference.predictor import Predictor
from eosvos.setup import device_for


class Sessions:
    """Makes, finds and ends sessions; loads the network that they share.

    Raises UserError for a checkpoint that cannot be loaded.
    """

    def __init__(self, settings: App) -> None:
        self.settings = settings
        self.predictor = Predictor.from_pretrained(
            settings.checkpoint, seed=settings.seed, device=device_for("auto"), trusted=settings.trusted
        )
        self._open: dict[str, Session] = {}
        self._computing = Lock()

    def open(self, key: str, path: Path) -> Session:
        """Begin with an uploaded video, in a new folder; ends what the tab did before.

        Raises UserError for a file that is refused, which changes nothing.
        """
        video = uploaded_video(path, self.settings)
        self.close(key)
        self._open[key] = Session(video, Path(self.settings.output) / token_hex(8), self._computing)
        return self._open[key]

    def __getitem__(self, key: str) -> Session:
        """The session of a tab; raises UserError if no video is chosen there."""
        if key not in self._open:
            raise UserError("there is no video yet: choose one first")
        return self._open[key]

    def close(self, key: str) -> None:
        """End the work of a tab that is gone; what it has written stays."""
        if session := self._open.pop(key, None):
            session.close()

    def adapted(self, steps: int, online_every: int | None) -> Predictor:
        """A predictor that fine-tunes in `steps` steps, and adapts every so many frames; None: never."""
        finetune = self.predictor.finetune
        online = finetune.online.model_copy(update={"every": online_every})
        finetune = finetune.model_copy(update={"steps": steps, "online": online})
        return Predictor(self.predictor.adapter, finetune, self.settings.seed)
