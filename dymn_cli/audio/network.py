"""Sound from an address, as a server sends it: web radio, cameras, whatever FFmpeg plays; needs PyAV.

The same formats and codings as in files are allowed (see `dymn_cli.audio.media`), and playlists (HLS) that
name further addresses, but none of them may name a file of this machine.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import av

from dymn_cli.audio.media import CONTAINERS, DECODERS, FAILURES, frame_samples
from dymn_cli.errors import InputError, UnsupportedAudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["stream_blocks"]

TIMEOUT_S = 10.0  # for a connection, and for the next data
MAX_FAILURES = 100  # packets in a row that do not decode
PROTOCOLS = "http https httpproxy crypto tcp tls udp rtp rtsp rtsps rtmp rtmps"
OPTIONS = {
    "protocol_whitelist": PROTOCOLS.replace(" ", ","),
    "format_whitelist": f"{CONTAINERS} rtsp rtp sdp hls".replace(" ", ","),
    "codec_whitelist": DECODERS.replace(" ", ","),
    "rtsp_flags": "prefer_tcp",  # loses no packets, and passes through routers
}


def stream_blocks(
    address: str, name: str, timeout_s: float = TIMEOUT_S
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """What a server sends: the rate and the (n, channels) float32 samples of each frame, as it comes.

    Args:
        address: of a stream, or of a recording, which ends in order.
        name: what errors call it.
        timeout_s: for the connection, and for the next data.

    Raises:
        InputError: there is no connection, or it breaks off; a stream without an end breaks off, too.
        UnsupportedAudioError: no audio in it, or a coding that is not allowed.
    """
    try:
        container = av.open(address, options=OPTIONS, timeout=timeout_s, metadata_errors="replace")
    except FAILURES as exc:
        raise InputError(
            f"{name}: {_reason(exc, timeout_s, 'cannot be reached, or sends no sound')}"
        ) from exc
    with container:
        if not container.streams.audio:
            raise UnsupportedAudioError(f"{name}: no audio stream in it")
        stream = container.streams.audio[0]
        context = stream.codec_context
        if context is None or context.name not in DECODERS.split():
            raise UnsupportedAudioError(f"{name}: a coding that is not decoded")
        n_failures = 0
        packets = container.demux(stream)
        while n_failures < MAX_FAILURES:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except EOFError:
                packet = None
            except IndexError:  # a broadcast gains a stream on the way
                n_failures, packets = n_failures + 1, container.demux(stream)
                continue
            except av.error.InvalidDataError:
                n_failures += 1
                continue
            except FAILURES as exc:
                raise InputError(f"{name}: {_reason(exc, timeout_s, 'the connection broke off')}") from exc
            if packet is None:
                break
            n_failures = 0
            yield from ((frame.sample_rate, frame_samples(frame)) for frame in frames if frame.samples)
        if n_failures:
            raise InputError(f"{name}: what comes is no sound any more")
        if not _is_recording(container):
            raise InputError(f"{name}: the server ended the stream")


def _is_recording(container: av.container.InputContainer) -> bool:
    """Whether it has an end of its own."""
    return container.size > 0 or (container.duration or 0) > 0


def _reason(exc: BaseException, timeout_s: float, usual: str) -> str:
    if isinstance(exc, av.error.ExitError):
        return f"no answer for {timeout_s:g} s"
    if isinstance(exc, av.error.InvalidDataError):
        return "the answer is no sound that can be decoded"
    if getattr(exc, "errno", None) in (None, errno.EIO):  # which FFmpeg says of much
        return usual
    return str(getattr(exc, "strerror", None) or usual).lower()
