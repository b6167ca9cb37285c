"""Files made by hand to hurt: each lies in one place, and some lie well.

`files` gives name → (bytes, what may come of it); a name of an error stands for that class exactly.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from fuzzing import ogg, seeds

RATE = 8_000
CORRUPT, UNSUPPORTED, EMPTY = "CorruptAudioError", "UnsupportedAudioError", "EmptyAudioError"
REFUSED = {CORRUPT, UNSUPPORTED, EMPTY}
ANY = {"valid", "long", *REFUSED}


def pcm(seconds: float = 0.1, channels: int = 1) -> bytes:
    """16-bit noise."""
    rng = np.random.default_rng(1)
    return rng.integers(-9_000, 9_000, int(seconds * RATE) * channels).astype("<i2").tobytes()


def chunk(name: bytes, data: bytes, size: int | None = None, *, order: str = "<") -> bytes:
    """A RIFF or IFF chunk, with a wrong size where one is given."""
    return name + struct.pack(f"{order}I", len(data) if size is None else size) + data


def wav(
    body: bytes = b"",
    *,
    channels: int = 1,
    rate_hz: int = RATE,
    bits: int = 16,
    coding: int = 1,
    align: int | None = None,
    before: bytes = b"",
    size: int | None = None,
) -> bytes:
    """A WAV file whose header says what it is told to."""
    align = channels * bits // 8 % 65_536 if align is None else align
    per_second = rate_hz * align % (1 << 32)
    fmt = struct.pack("<HHIIHH", coding, channels, rate_hz, per_second, align, bits)
    rest = b"WAVE" + chunk(b"fmt ", fmt) + before + chunk(b"data", body, size)
    return b"RIFF" + struct.pack("<I", min(len(rest), 0xFFFF_FFFF)) + rest


def aiff(
    channels: int = 1, n_frames: int = 800, rate: bytes = b"\x40\x0b\xfa" + bytes(7), offset: int = 0
) -> bytes:
    """An AIFF file; the rate is an extended float, here 8,000."""
    comm = struct.pack(">HIH", channels, n_frames, 16) + rate
    rest = (
        b"AIFF"
        + chunk(b"COMM", comm, order=">")
        + chunk(b"SSND", struct.pack(">II", offset, 0) + pcm(), order=">")
    )
    return chunk(b"FORM", rest, order=">")


def caf(
    *chunks: tuple[bytes, bytes, int | None],
    coding: bytes = b"lpcm",
    rate: float = 8_000.0,
    channels: int = 1,
) -> bytes:
    """A Core Audio file; sizes of chunks are 64 bits."""
    desc = struct.pack(">d4sIIIII", rate, coding, 0 if coding == b"alac" else 2, 2, 1, channels, 16)
    parts = [(b"desc", desc, None), *chunks]
    sized = (
        name + struct.pack(">Q", (len(data) if size is None else size) % (1 << 64)) + data
        for name, data, size in parts
    )
    return b"caff\0\1\0\0" + b"".join(sized)


def alac_with_table(table: bytes) -> bytes:
    """A sound ALAC file up to the end of its table of packet sizes, which is this one."""
    sound = seeds.with_libsndfile("CAF", "ALAC_16") or b""
    at = sound.find(b"pakt")
    size = int.from_bytes(sound[at + 4 : at + 12], "big")
    header, rest = sound[at + 12 : at + 36], sound[at + 12 + size :]
    return sound[: at + 4] + struct.pack(">Q", 24 + len(table)) + header + table + rest


def box(name: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    """An MP4 box."""
    return struct.pack(">I", len(data) + 8 if size is None else size) + name + data


def id3(size: int) -> bytes:
    """The header of an ID3v2.4 tag that claims to be so long."""
    return b"ID3\4\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def crc(data: bytes, polynomial: int, bits: int) -> int:
    """A cyclic check as FLAC has two of them."""
    value = 0
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
    return value


def flac(rate_hz: int = RATE, n_claimed: int = 0, n_blocks: int = 0, *, metadata: bytes = b"") -> bytes:
    """Silence as FLAC's encoder would have it at its best: 65,535 samples in 14 bytes.

    Args:
        rate_hz: samples per second.
        n_claimed: samples that the header claims.
        n_blocks: blocks that are there.
        metadata: further metadata blocks.
    """
    packed = rate_hz << 44 | 15 << 36 | n_claimed
    info = struct.pack(">HH", 65_535, 65_535) + bytes(6) + struct.pack(">Q", packed) + bytes(16)
    last = 0 if metadata else 0x80
    out = [b"fLaC", bytes((last, 0, 0, 34)), info, metadata]
    for number in range(n_blocks):
        head = b"\xff\xf8\x70\x08" + chr(number).encode("utf-8", "surrogatepass") + b"\xff\xfe"
        frame = head + bytes((crc(head, 0x07, 8),)) + bytes(3)
        out.append(frame + crc(frame, 0x8005, 16).to_bytes(2, "big"))
    return b"".join(out)


def files() -> Iterator[tuple[str, bytes, set[str]]]:
    """Name, bytes, and what may come of them."""
    yield from waves()
    yield from other_headers()
    yield from streams()
    yield from boxes()
    yield from no_audio()


def waves() -> Iterator[tuple[str, bytes, set[str]]]:
    """RIFF and its like."""
    sound = pcm()
    yield "wav claims 4 GiB", wav(sound, size=0xFFFF_FFF0), {"valid"}
    yield "wav claims 1 GiB", wav(sound, size=1 << 30), {"valid"}
    for channels in (0, 255, 1_024, 65_535):
        yield (
            f"wav {channels} channels",
            wav(pcm(channels=min(channels, 255) or 1), channels=channels),
            {CORRUPT},
        )
    for rate_hz in (0, 1, 999, 768_001, 10_000_000, 0x7FFF_FFFF, 0xFFFF_FFFF):
        yield f"wav {rate_hz} Hz", wav(sound, rate_hz=rate_hz), {CORRUPT}
    for value in (np.nan, np.inf, -np.inf, 1e38):
        samples = np.zeros(800, "<f4")
        samples[700] = value
        yield f"wav {value}", wav(samples.tobytes(), bits=32, coding=3), {"valid"}
    yield "wav of signalling NaN", wav(b"\x01\0\0\0\0\0\xf0\x7f" * 800, bits=64, coding=3), {CORRUPT}
    for bits in (0, 1, 7, 65, 255):
        yield f"wav {bits} bits", wav(sound, bits=bits), ANY
    yield "wav block of nothing", wav(sound, align=0), ANY
    yield "wav block of 65,535", wav(sound, align=65_535), ANY
    for coding in (2, 17, 49, 0x55, 0xFFFE, 0xFFFF):
        yield f"wav coding {coding}", wav(sound, coding=coding, bits=4, align=0), ANY
    yield "wav chunk of 4 GiB", wav(sound, before=chunk(b"junk", b"", 0xFFFF_FFFF)), ANY
    nested = b"INFO"
    for _ in range(2_000):
        nested = b"INFO" + chunk(b"LIST", nested)
    yield "wav lists in lists", wav(sound, before=chunk(b"LIST", nested)), ANY
    yield "wav 100,000 empty chunks", wav(sound, before=chunk(b"junk", b"") * 100_000), ANY
    yield "wav 100,000 chunks and no data", wav(before=chunk(b"junk", b"") * 100_000), REFUSED
    ds64 = struct.pack("<QQQI", 1 << 62, 1 << 60, 1 << 59, 0)
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    rf64 = b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", ds64) + fmt + b"data\xff\xff\xff\xff" + sound
    yield "rf64 claims exabytes", rf64, ANY
    yield "rf64 negative", rf64.replace(ds64, b"\xff" * 24 + bytes(4)), ANY
    yield "rf64 table of 4 billion", rf64.replace(ds64, ds64[:24] + b"\xff" * 4), ANY
    w64 = seeds.with_libsndfile("W64", "PCM_16") or b""
    for size in (0, 1, 23, 24, 1 << 62, (1 << 64) - 1):
        yield f"w64 chunk of {size}", w64[:56] + struct.pack("<Q", size) + w64[64:], ANY


def other_headers() -> Iterator[tuple[str, bytes, set[str]]]:
    """AIFF, AU, CAF, and what nobody has any more."""
    yield "aiff", aiff(), {"valid"}
    yield "aiff 0 channels", aiff(0), REFUSED
    yield "aiff 255 channels", aiff(255), REFUSED
    yield "aiff 4 billion frames", aiff(n_frames=0xFFFF_FFFF), ANY
    for name, rate in (
        ("NaN", b"\x7f\xff" + b"\xff" * 8),
        ("0", bytes(10)),
        ("-8000", b"\xc0\x0b\xfa" + bytes(7)),
    ):
        yield f"aiff {name} Hz", aiff(rate=rate), REFUSED
    yield "aiff data beyond the end", aiff(offset=0xFFFF_FFF0), ANY
    for size in (0, 0xFFFF_FFFF):
        yield f"au of {size}", struct.pack(">4sIIIII", b".snd", 24, size, 3, RATE, 1) + pcm(), ANY
    yield "au starts at 4 GiB", struct.pack(">4sIIIII", b".snd", 0xFFFF_FFFF, 800, 3, RATE, 1) + pcm(), ANY
    sound = (b"data", bytes(4) + pcm(), None)
    yield "caf", caf(sound), {"valid"}
    for rate in (float("nan"), float("inf"), -8_000.0, 0.0, 1e300, 1e-300):
        yield f"caf {rate} Hz", caf(sound, rate=rate), REFUSED
    for size in (-1, -2, 0, 1 << 62):
        yield f"caf data of {size}", caf((b"data", bytes(4) + pcm(), size)), ANY
    yield "caf chunk that loops", caf((b"free", b"", -12), sound), ANY
    yield "caf 2 billion channels", caf(sound, channels=0x7FFF_FFFF), REFUSED
    yield "alac, a number without end", alac_with_table(b"\xff" * 12), REFUSED
    yield "alac, a number cut off", alac_with_table(b"\x90\x10\x90\x10\x81"), REFUSED
    yield "alac, packets of 2 GiB", alac_with_table(b"\x87\xff\xff\xff\x7f" * 4), REFUSED
    yield "alac, a table of exabytes", caf((b"pakt", b"", 1 << 60), sound, coding=b"alac"), REFUSED
    dump = bytearray(seeds.with_libsndfile("SDS", "PCM_16") or b"")
    dump[23] = 0x55  # the mark of a packet: libsndfile complains of each
    yield "midi dump", bytes(dump), {UNSUPPORTED}
    yield "midi dump behind a tag", id3(0) + bytes(dump), {UNSUPPORTED}
    yield "midi dump behind 200 tags", id3(0) * 200 + bytes(dump), {CORRUPT, UNSUPPORTED}
    adx = b"\x80\0\0\x20\3\x12\6\2\0\0\xbb\x80\0\0\x25\x80\1\xf4\3" + bytes(15) + b"(c)CRI" + bytes(4_000)
    yield "adx with blocks of 18 bits", adx, {UNSUPPORTED}


def streams() -> Iterator[tuple[str, bytes, set[str]]]:
    """FLAC, Ogg, MP3 and their tags."""
    yield "flac", flac(n_blocks=1), {"valid"}
    yield "flac claims 99 days", flac(n_claimed=(1 << 36) - 1), REFUSED
    yield "flac claims 99 days, has 8 s", flac(n_claimed=(1 << 36) - 1, n_blocks=1), {"valid"}
    yield "flac of unknown length", flac(n_blocks=1), {"valid"}
    for kind in (1, 2, 3, 4, 5, 6, 126):
        claim = bytes((kind | 0x80,)) + b"\xff\xff\xff"
        yield f"flac metadata {kind} of 16 MiB", flac(metadata=claim + bytes(100)), REFUSED
    comment = struct.pack("<II", 0xFFFF_FFFF, 0xFFFF_FFFF)
    yield "flac comment of 4 GiB", flac(n_blocks=0, metadata=b"\x84\0\0\x08" + comment), REFUSED
    picture = struct.pack(">II", 3, 0xFFFF_FFFF) + bytes(40)
    yield "flac picture of 4 GiB", flac(metadata=b"\x86\0\0\x30" + picture), REFUSED
    for codec in ("VORBIS", "OPUS"):
        sound = seeds.with_libsndfile("OGG", codec) or b""
        last = ogg.pages(sound)[-1][0]
        for position in (-1, 0, 1, (1 << 63) - 1, -(1 << 63)):
            changed = sound[: last + 6] + struct.pack("<q", position) + sound[last + 14 :]
            yield f"{codec} ends at {position}", ogg.with_checksums(changed), ANY
        first = ogg.pages(sound)[0]
        yield f"{codec} 1,000 beginnings", sound[: first[1]] * 1_000, REFUSED
        yield f"{codec} 30 in a row", sound * 30, ANY
        yield f"{codec} page that loops", sound + sound[last:] * 300, ANY
    mp3 = seeds.with_libsndfile("MP3", "MPEG_LAYER_III") or b""
    yield "mp3 behind a tag of 256 MiB that is not there", id3((1 << 28) - 1) + mp3, ANY
    yield "mp3 behind 1,000 tags", id3(0) * 1_000 + mp3, ANY
    yield "300,000 tags", id3(0) * 300_000, REFUSED
    yield "mp3 claims 4 billion frames", _with_xing(mp3, 0xFFFF_FFFF), ANY
    yield "mp3 claims one frame", _with_xing(mp3, 1), ANY
    yield "nothing but sync", b"\xff\xfb" * 100_000, REFUSED
    yield "mp3 of free format", b"\xff\xfb\x00\x00" + bytes(20_000), REFUSED
    ape = b"APETAGEX" + struct.pack("<IIII8x", 2_000, 0xFFFF_FFFF, 0xFFFF_FFFF, 0x8000_0000)
    yield "mp3 before a tag of 4 GiB", mp3 + ape, ANY


def _with_xing(mp3: bytes, n_frames: int) -> bytes:
    at = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    return mp3[: at + 8] + struct.pack(">I", n_frames) + mp3[at + 12 :]


def boxes() -> Iterator[tuple[str, bytes, set[str]]]:
    """What PyAV reads; without it all are unsupported."""
    ftyp = box(b"ftyp", b"M4A \0\0\0\0M4A ")
    nested = b""
    for _ in range(20_000):
        nested = box(b"moov", nested)
    yield "mp4 boxes in boxes", ftyp + nested, REFUSED
    yield "mp4 box that holds itself", ftyp + box(b"moov", size=8) * 3_000, REFUSED
    yield "mp4 box of nothing", ftyp + box(b"moov", size=0), REFUSED
    yield "mp4 box of exabytes", ftyp + struct.pack(">I4sQ", 1, b"mdat", 1 << 62), REFUSED
    m4a = seeds.with_ffmpeg("ipod", "aac", video=False)
    if m4a:
        for table in (b"stts", b"stsc", b"stsz", b"stco"):
            at = m4a.find(table) + (12 if table == b"stsz" else 8)
            yield f"m4a, 4 billion entries in {table.decode()}", m4a[:at] + b"\xff" * 4 + m4a[at + 4 :], ANY
        at = m4a.find(b"mdhd") + 16
        yield "m4a, a second of 4 billion", m4a[:at] + b"\xff" * 4 + m4a[at + 4 :], ANY
    ebml = b"\x1a\x45\xdf\xa3\x84\x42\x82\x88webm"
    yield (
        "mkv segments in segments",
        ebml + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" * 5_000,
        REFUSED,
    )
    yield "mkv of 2^56 bytes", ebml + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xfe", REFUSED
    picture = seeds.with_picture(16_000)
    if picture:
        yield "film with a picture of 256 million pixels", picture, ANY


def no_audio() -> Iterator[tuple[str, bytes, set[str]]]:
    """Other things that get a sound's name."""
    texts = {
        "m3u": "#EXTM3U\n#EXTINF:1,x\n/etc/hostname\nhttp://127.0.0.1:9/x.mp3\n",
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "pls": "[playlist]\nFile1=/etc/hostname\nNumberOfEntries=1\n",
        "ffconcat": "ffconcat version 1.0\nfile /etc/hostname\n",
        "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'/>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        "asx": "<asx version='3.0'><entry><ref href='file:///etc/hostname'/></entry></asx>",
        "cue": 'FILE "/etc/hostname" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
        "svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "csv": "a,b\n1,2\n",
        "subtitles": "WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n",
        "lyrics": "[ar:x]\n[00:01.00]Hello\n",
        "effects": ";FFMETADATA1\ntitle=x\n",
    }
    for name, text in texts.items():
        yield name, text.encode(), {UNSUPPORTED}
    magics = {
        "zip": b"PK\3\4\x14\0",
        "gzip": b"\x1f\x8b\x08\0",
        "xz": b"\xfd7zXZ\0",
        "pdf": b"%PDF-1.7\n",
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + b"\x7f\xff\xff\xff" * 2 + b"\x08\x06\0\0\0",
        "gif": b"GIF89a\xff\xff\xff\xff",
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        "elf": b"\x7fELF\2\1\1",
        "pickle": b"\x80\4\x95",
        "midi": b"MThd\0\0\0\6\0\1\xff\xff\0\x60MTrk",
        "mod": bytes(1_080) + b"M.K.",
    }
    noise = np.random.default_rng(4).bytes(5_000)
    for name, magic in magics.items():
        yield name, magic + noise, REFUSED
    yield "zeros", bytes(100_000), REFUSED
    yield "ones", b"\xff" * 100_000, REFUSED
    yield "one byte", b"R", {UNSUPPORTED}
    yield "no byte", b"", {EMPTY}
