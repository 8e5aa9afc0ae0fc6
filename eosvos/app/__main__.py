"""The command eosvos-app."""

from pathlib import Path
from typing import TYPE_CHECKING

from eosvos.commands import compose_and_do
from eosvos.config.messages import user_errors

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main() -> None:
    """Serve the page that the command line asks for, whose configuration is conf/app.yaml, until Ctrl-C."""

    def job(cfg: "DictConfig") -> None:
        # Hydra adds a line of its own to what goes through it.
        with user_errors():
            serve(cfg)

    compose_and_do(job, "app")


def serve(cfg: "DictConfig") -> None:
    """Serve the page of a configuration; raises UserError for what cannot be as it is."""
    from eosvos.config.checks import check_app
    from eosvos.errors import UserError
    from eosvos.writing import check_writable

    settings = check_app(cfg)
    check_writable(Path(settings.output), "output")
    try:
        from eosvos.app.page import start
    except ModuleNotFoundError as error:
        raise UserError(
            f"the page needs {error.name}: uv run --extra app eosvos-app, or pip install gradio"
        ) from error
    start(settings)


if __name__ == "__main__":
    main()
