"""onnxruntime, imported here and nowhere else, so that its telemetry is off before it loads.

From 1.32 on it would store a device id below the home folder, write `.ses` into the temporary folder (through
a link that lies there) and send events over the network. It reads the variable when it is imported: a program
that has imported onnxruntime before dymn must set it itself.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort  # noqa: E402 -- the variable comes first

__all__ = ["ort"]
