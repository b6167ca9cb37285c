"""From 32 kHz mono samples to the log-mel that the networks read. NumPy only.

`dymn_cli.frontend.torch_logmel` has the same in PyTorch; it is not imported from here, so that tagging
needs no torch.
"""

from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.melbank import FrontEndConfig, mel_bank

__all__ = ["FrontEndConfig", "LogMel", "mel_bank"]
