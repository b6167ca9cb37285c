"""Read a finished result of dymn back: the reverse of `writers`.

    a file or standard input ──▶ open_result ──▶ ClipResult | SourceEvents | EmbeddingRows | Failure

    recognise    which format it is, by its beginning and its name
    source       the bytes: a file, a pipe, standard input
    cells        lines of csv and tsv
    rows         what a row holds, and rows put together to results
    from_*       a module a format
    selection    which rows are wanted, and why none is left

What a format does not hold is unknown in the result: NaN for a score or a length, 0 for a rate or a number of
windows, -1 for the index of a label.
"""

from dymn_cli.readers.recognise import READ_FORMATS
from dymn_cli.readers.result import EmbeddingRows, Result, open_result
from dymn_cli.readers.rows import UNKNOWN_AUDIO, UNKNOWN_MODEL
from dymn_cli.readers.selection import Selection, SelectionOptions

__all__ = [
    "READ_FORMATS",
    "UNKNOWN_AUDIO",
    "UNKNOWN_MODEL",
    "EmbeddingRows",
    "Result",
    "Selection",
    "SelectionOptions",
    "open_result",
]
