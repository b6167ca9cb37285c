"""The program as a process: `dymn`, or `python -m dymn_cli`.

Worker processes import this module again, so that it imports nothing itself.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

__all__ = ["main"]

COLLECT_EVERY = 50_000  # new objects; with Python's 700, a tenth of a short run looks for garbage in imports


def main() -> NoReturn:
    """Entry point of the command `dymn`."""
    gc.set_threshold(COLLECT_EVERY)
    try:
        from dymn_cli.cli.app import main as program

        program()
    except KeyboardInterrupt:  # while modules are loaded; later, `program` says so itself
        sys.stderr.write("dymn: interrupted\n")
        sys.exit(130)
    finally:
        gc.freeze()  # what is left ends with the process: Python need not go through all of it once more


if __name__ == "__main__":
    main()
