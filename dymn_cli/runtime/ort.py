"""onnxruntime, imported here and nowhere else, so that its telemetry is off before it loads.

From 1.32 on it would store a device id below the home folder, write `.ses` into the temporary folder (through
a link that lies there) and send events over the network. It reads the variable when it is imported: a program
that has imported onnxruntime before dymn must set it itself.
"""

import os
import re

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

__all__ = ["first_line", "ort"]

PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")  # of its messages; means nothing to users


def first_line(exc: BaseException) -> str:
    """What onnxruntime says in an exception, in one line."""
    return PREFIX.sub("", next(iter(str(exc).splitlines()), type(exc).__name__))
