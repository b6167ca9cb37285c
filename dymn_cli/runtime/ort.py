"""Import onnxruntime, here and nowhere else, so that its telemetry is off before it loads.

From 1.32 on it would store a device id in the home folder, write `.ses` into the temporary folder (following
a link of that name) and send events over the network. It reads the variable when it is imported: a program
that imports onnxruntime before dymn must set it itself.
"""

import os
import re

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from dymn_cli.errors import first_line

__all__ = ["ort", "ort_error_text", "session_options"]

PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")  # of its messages; means nothing to users


def ort_error_text(exc: BaseException) -> str:
    """The message of one of onnxruntime's exceptions, in one line."""
    return PREFIX.sub("", first_line(exc))


def session_options(threads: int = 1) -> ort.SessionOptions:
    """Options of a session with so many threads that sleep while they wait, and that reads ONNX only."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal ones only: errors come back as exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Otherwise bytes could switch to onnxruntime's own format, which `require_plain` does not check.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options
