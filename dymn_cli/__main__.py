"""The entry point of the program: `dymn`, or `python -m dymn_cli`.

Worker processes import this module again, so it imports nothing of the package at the top.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

__all__ = ["main"]

COLLECT_EVERY = (
    50_000  # new objects; with Python's default, a short run spends a tenth of its time collecting
)


def main() -> NoReturn:
    """Entry point of the command `dymn`."""
    gc.set_threshold(COLLECT_EVERY)
    try:
        from dymn_cli.cli.app import main as program

        program()
    except KeyboardInterrupt:  # during imports; later, `program` handles it
        sys.stderr.write("dymn: interrupted\n")
        sys.exit(130)
    finally:
        gc.freeze()  # so that Python does not collect once more on exit


if __name__ == "__main__":
    main()
