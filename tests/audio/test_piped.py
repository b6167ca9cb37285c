from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.audio import decode
from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.piped import Pipe, is_piped_wav
from dymn_cli.errors import EmptyAudioError, InputError

SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


class Stream(io.RawIOBase):
    """Bytes that come a few at a time and only once."""

    def __init__(self, data: bytes, most: int = 4093) -> None:
        self._rest = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._rest.readinto(memoryview(buffer)[: self._most])


def wav(subtype: str = "PCM_16", *, form: str = "WAV", channels: int = 2, mark: int = 0xFFFF_FFFF) -> bytes:
    """Half a second of noise as a program writes it into a pipe."""
    data = bytearray(sounds.encoded(sounds.flat_noise((8_000, channels)), 16_000, form, subtype))
    struct.pack_into("<I", data, data.index(b"data") + 4, mark)
    return bytes(data)


def whole(data: bytes) -> np.ndarray:
    with open_audio(io.BytesIO(data)) as reader:
        return np.concatenate(list(reader.blocks(1_000)))


@pytest.fixture
def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a copy was made")

    monkeypatch.setattr(decode, "spool", refuse)


@pytest.mark.usefixtures("no_copies")
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_stream_of_unknown_length_is_read_without_a_copy(subtype: str, form: str) -> None:
    data = wav(subtype, form=form)
    with open_audio(Stream(data), name="-") as reader:
        assert (reader.info.rate_hz, reader.info.channels, reader.info.n_frames) == (16_000, 2, None)
        assert (reader.info.container, reader.info.codec) == ("WAV", subtype)
        read = np.concatenate(list(reader.blocks(1_000)))
    np.testing.assert_array_equal(read, whole(data))
    assert reader.warnings == []


@pytest.mark.usefixtures("no_copies")
@pytest.mark.parametrize("mark", [0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000, 0x7FFF_FFFF])
def test_every_mark_of_an_unknown_length_is_known_and_half_a_sample_is_none(mark: int) -> None:
    with open_audio(Stream(wav(mark=mark)[:-3]), name="-") as reader:
        assert len(np.concatenate(list(reader.blocks(999)))) == 7_999


def test_what_tells_its_length_or_is_no_wav_is_copied_and_read_as_ever() -> None:
    flac = io.BytesIO()
    soundfile.write(flac, np.zeros(8_000), 16_000, format="FLAC")
    told = wav(mark=8_000 * 4)
    for data in (told, flac.getvalue(), wav("ALAW", mark=0xFFFF_FFFF)):
        assert not is_piped_wav(Pipe(Stream(data)))
        with open_audio(Stream(data), name="-") as reader:
            assert sum(map(len, reader.blocks(1_000))) == 8_000


@pytest.mark.parametrize("n_bytes", [0, 3, 11, 12, 19, 30])
def test_a_stream_that_ends_in_its_header_is_an_error(n_bytes: int) -> None:
    with pytest.raises(InputError):
        open_audio(Stream(wav()[:n_bytes]), name="-")


def test_a_header_without_samples_is_empty() -> None:
    with (
        open_audio(Stream(wav()[:44]), name="-") as reader,
        pytest.raises(EmptyAudioError, match="-: no samples"),
    ):
        list(reader.blocks(1_000))


def test_a_limit_holds_for_what_is_not_copied_too() -> None:
    pipe = Pipe(Stream(wav()), most_bytes=10_000)
    with (
        open_audio(pipe, name="-") as reader,  # type: ignore[arg-type]
        pytest.raises(InputError, match="-: the stream has more than 10,000 bytes") as caught,
    ):
        list(reader.blocks(1_000))
    assert caught.value.hint == "--max-input allows more"
