"""`python -m eosvos.convert IN OUT`: write a checkpoint in another layout."""

import argparse
from collections.abc import Sequence

from eosvos.config.messages import user_errors
from eosvos.config.pretrained import find


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for, and print what was written."""
    parser = argparse.ArgumentParser(
        prog="python -m eosvos.convert", description="Write a checkpoint in another layout."
    )
    parser.add_argument(
        "checkpoint", metavar="IN", help="a checkpoint, as train.py and evaluate.py take with checkpoint="
    )
    parser.add_argument(
        "target",
        metavar="OUT",
        help="a folder (safetensors and configuration), FILE.model (the published layout), or hf://OWNER/NAME",
    )
    parser.add_argument("--half", action="store_true", help="16 bits a value, half the size")
    parser.add_argument(
        "--trusted", nargs="+", default=[], metavar="PACKAGE", help="whose networks IN may have"
    )
    parser.add_argument(
        "--toward",
        nargs=2,
        metavar=("CHECKPOINT", "SHARE"),
        help="move the weights this share (0 to 1) of the way to those of another, such as the parent",
    )
    options = parser.parse_args(arguments)
    toward = options.toward and (options.toward[0], _share(parser, options.toward[1]))
    with user_errors():
        find(options.checkpoint)
        if toward:
            find(toward[0])
        # Takes torch, which takes seconds.
        from eosvos.meta.convert import convert_checkpoint

        print(convert_checkpoint(options.checkpoint, options.target, options.half, options.trusted, toward))


def _share(parser: argparse.ArgumentParser, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        parser.error(f"--toward CHECKPOINT SHARE: {text!r} is no number from 0 to 1")


if __name__ == "__main__":
    main()
