"""`python -m eosvos.data check|show|split`: look at data sets, and divide them."""

import argparse
import sys
from collections.abc import Sequence

from eosvos.config.explain import explain
from eosvos.data import check, show, split
from eosvos.errors import UserError

_COMMANDS = {
    "check": (check, "decode every frame and mask and list what is wrong; exit status 1 if anything is"),
    "show": (show, "draw tasks as training sees them: support and query frames, their objects outlined"),
    "split": (split, "divide the training videos into train, val and test by a seed, and write that down"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: its own, or 2 if the user's input is at fault."""
    parser = argparse.ArgumentParser(prog="python -m eosvos.data", description="Look at data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, purpose) in _COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=purpose, description=purpose))
    options = parser.parse_args(arguments)
    try:
        return _COMMANDS[options.command][0].run(options)
    except Exception as error:
        sentence = str(error) if isinstance(error, UserError) else explain(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
