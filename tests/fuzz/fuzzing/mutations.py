"""From a sound file to a hostile one: every mutant is a function of the seeds, a run's number and its own.

Some mutations know nothing of the format (bytes, ranges, cuts). The others know where formats keep what
decoders believe: sizes beside the names of chunks, rates and channel counts, tags at both ends, Ogg's
checksums, which are put right again in half of the mutants so that the damage gets past them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import pickletools
import random
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from fuzzing import ogg

LONGEST = 1 << 18
NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 999, 1_024, 1_025, 8_000, 32_000, 65_535, 65_536),
    *(192_000, 768_001, 10_000_000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFE, 0xFFFF_FFFF),
    *(1 << 32, 1 << 36, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
)
FLOATS = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-40, 3e9)
# Names of chunks, boxes, elements and pages: sizes stand before or after them.
NAMES = re.compile(
    rb"RIFF|RF64|riff|WAVE|fmt |data|fact|ds64|LIST|PEAK|cue |smpl|FORM|COMM|SSND|FVER|caff|desc|pakt|kuki"
    rb"|chan|ftyp|moov|mvhd|trak|tkhd|mdia|mdhd|stsd|mp4a|esds|alac|stts|stsc|stsz|stco|co64|edts|elst|mdat"
    rb"|udta|meta|fLaC|OggS|OpusHead|OpusTags|\x01vorbis|\x03vorbis|\x05vorbis|Xing|Info|LAME|ID3|TAG|APETAGEX|\.snd|2BIT"
    rb"|\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x15\x49\xa9\x66|\x16\x54\xae\x6b|\x1f\x43\xb6\x75"
    rb"|8SVX|VHDR|BODY|Creative Voice|MATLAB|NIST_1A|ALawSoundFile|Extended Instrument| paf|fap |PVF1"
    rb"|FLV|wvpk|TTA1|\.RMF|PROP|MDPR|DATA|INDX|AVI |hdrl|avih|strl|strh|strf|movi|idx1"
    rb"|SOX|Xof|\xff\xfb|\xff\xf1"
)
MAGICS = (
    *(
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"FORM\xff\xff\xff\xffAIFC",
        b"caff\0\1\0\0",
    ),
    *(
        b"fLaC\0\0\0\x22",
        b"OggS\0\2",
        b"ID3\4\0\0\x7f\x7f\x7f\x7f",
        b"\xff\xfb\x90\x64",
        b".snd\0\0\0\x18",
        b"riff.\x91\xcf\x11",
    ),
    *(
        b"\0\0\0\x20ftypM4A ",
        b"\x1a\x45\xdf\xa3\x9f",
        b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",
        b"FLV\1\4",
        b"MThd",
        b"IMPM",
    ),
    *(
        b"#EXTM3U\n",
        b"ffconcat version 1.0\n",
        b"[playlist]\n",
        b"<?xml version='1.0'?><MPD>",
        b"v=0\no=",
        b"PK\3\4",
        b"\x1f\x8b\x08",
    ),
    *(
        b"MATLAB 5.0 MAT-file",
        b"Creative Voice File\x1a",
        b"NIST_1A\n   1024\n",
        b"Extended Instrument: ",
        b"2BIT",
        b"wvpk",
        b"MAC ",
    ),
)


def mutant(seeds: Mapping[str, bytes], run: int, number: int) -> bytes:
    """The mutant with that number in that run; the names of the seeds are taken in alphabetical order."""
    rng = random.Random(f"{run}/{number}")
    if rng.random() < 0.04:
        return rng.choice(MAGICS) + rng.randbytes(rng.randrange(4_000))
    names = sorted(seeds)
    name = rng.choice(names)
    data = bytearray(seeds[name])
    original = bytes(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        rng.choices(MUTATIONS, WEIGHTS)[0](data, rng, seeds[rng.choice(names)])
        del data[LONGEST:]
    if data == original:
        _bits(data, rng, b"")
    if b"OggS" in data[:4] and rng.random() < 0.5:
        return ogg.with_checksums(bytes(data))
    return bytes(data)


def interesting_offsets(data: bytes) -> list[int]:
    """Where a truncation may meet a decoder off its guard: the front, around each name, and the end."""
    near = range(-2, 17)
    offsets = {*range(min(len(data), 80)), *(len(data) - n for n in (1, 2, 3, 4, 8, 127, 128, 129))}
    places = [match.start() for match in NAMES.finditer(data)]
    offsets.update(place + n for place in places[:40] for n in near)
    offsets.update(len(data) * part // 16 for part in range(16))
    return sorted(offset for offset in offsets if 0 <= offset < len(data))


# ---------------------------------------------------------------------- single mutations


def _at(data: bytearray, rng: random.Random) -> int:
    """A place in the data: mostly in the header, or beside a name."""
    if not data:
        return 0
    kind = rng.random()
    if kind < 0.45:
        return rng.randrange(min(len(data), 200))
    if kind < 0.75 and (found := [match.start() for match in NAMES.finditer(data)]):
        return min(max(0, rng.choice(found) + rng.randrange(-8, 48)), len(data) - 1)
    return rng.randrange(len(data))


def _bits(data: bytearray, rng: random.Random, _other: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if data:
            data[_at(data, rng)] ^= 1 << rng.randrange(8)


def _bytes(data: bytearray, rng: random.Random, _other: bytes) -> None:
    at, n = _at(data, rng), rng.choice((1, 2, 4, 8, 32))
    data[at : at + n] = rng.choice((rng.randbytes(n), bytes(n), b"\xff" * n))


def _number(data: bytearray, rng: random.Random, _other: bytes) -> None:
    at, n = _at(data, rng), rng.choice((1, 2, 2, 4, 4, 4, 8))
    value = rng.choice((*NUMBERS, len(data), len(data) - at, at))
    value = (value + rng.choice((0, 0, 0, 1, -1))) % (1 << 8 * n)
    data[at : at + n] = value.to_bytes(n, rng.choice(("little", "big")))


def _size(data: bytearray, rng: random.Random, _other: bytes) -> None:
    found = [match.span() for match in NAMES.finditer(data)]
    if not found:
        return _number(data, rng, b"")
    start, end = rng.choice(found)
    at = rng.choice((end, end, start - 4, end + 4))
    if at >= 0:
        value = rng.choice((*NUMBERS, len(data), len(data) - at)) % (1 << 32)
        data[at : at + 4] = value.to_bytes(4, rng.choice(("little", "big")))
    return None


def _rate_or_channels(data: bytearray, rng: random.Random, _other: bytes) -> None:
    """Where WAV, AIFF, AU, CAF and FLAC keep them; elsewhere it is a number like others."""
    rate = rng.choice((0, 1, 999, 1_000, 11_025, 44_100, 768_000, 768_001, 10_000_000, 0xFFFF_FFFF))
    channels = rng.choice((0, 1, 2, 3, 63, 64, 65, 255, 1_024, 1_025, 65_535))
    wav, aiff = data.find(b"fmt "), data.find(b"COMM")
    if wav >= 0 and rng.random() < 0.9:
        field, value = rng.choice(
            ((10, channels), (12, rate), (20, channels), (22, rng.choice((0, 1, 7, 8, 12, 16, 64))))
        )
        n = 4 if field == 12 else 2
        data[wav + field : wav + field + n] = value.to_bytes(n, "little")
    elif aiff >= 0:
        data[aiff + 8 : aiff + 10] = channels.to_bytes(2, "big")
        data[aiff + 16 : aiff + 18] = rng.choice((0, 0x3FFF, 0x400E, 0x401E, 0x7FFF)).to_bytes(2, "big")
    elif data.startswith(b".snd"):
        data[16:24] = struct.pack(">II", rate, channels)
    elif data.startswith(b"caff"):
        data[20:28] = struct.pack(">d", rng.choice((*FLOATS, 0.5, float(rate), -1.0)))
        data[44:48] = channels.to_bytes(4, "big")
    elif data.startswith(b"fLaC"):
        packed = (rate & 0xFFFFF) << 12 | (channels - 1 & 7) << 9 | rng.randrange(32) << 4 | rng.randrange(16)
        data[18:22] = packed.to_bytes(4, "big")
    else:
        _number(data, rng, b"")


def _floats(data: bytearray, rng: random.Random, _other: bytes) -> None:
    at = _at(data, rng) & ~3 if rng.random() < 0.3 else rng.randrange(max(1, len(data)))
    form = rng.choice(("<f", ">f", "<d", ">d"))
    value = rng.choice(FLOATS)
    packed = struct.pack(form, value) * rng.choice((1, 1, 50))
    data[at : at + len(packed)] = packed


def _cut(data: bytearray, rng: random.Random, _other: bytes) -> None:
    if data:
        del data[_at(data, rng) :]


def _delete(data: bytearray, rng: random.Random, _other: bytes) -> None:
    at = _at(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 8, 100, 1_000))]


def _insert(data: bytearray, rng: random.Random, _other: bytes) -> None:
    at, n = _at(data, rng), rng.choice((1, 2, 4, 8, 100, 5_000))
    data[at:at] = rng.choice((rng.randbytes(n), bytes(n), b"\xff" * n))


def _repeat(data: bytearray, rng: random.Random, _other: bytes) -> None:
    """A piece many times over: chunks without end, nested boxes, pages that loop."""
    at, n = _at(data, rng), rng.choice((8, 12, 16, 64, 500, 4_000))
    piece = data[at : at + n]
    data[at:at] = piece * rng.choice((1, 2, 30, max(1, LONGEST // 8 // n)))


def _chunks(data: bytearray, rng: random.Random, _other: bytes) -> None:
    """Exchange, repeat or drop what lies between two names."""
    cuts = [0, *(match.start() for match in NAMES.finditer(data)), len(data)]
    pieces = [bytes(data[low:high]) for low, high in pairwise(cuts)]
    if len(pieces) > 200:
        return
    one, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    match rng.randrange(3):
        case 0:
            pieces[one], pieces[other] = pieces[other], pieces[one]
        case 1:
            pieces.insert(one, pieces[other])
        case _:
            del pieces[one]
    data[:] = b"".join(pieces)


def _splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    """The front of one file and the back of another."""
    at, there = _at(data, rng), rng.randrange(len(other) + 1)
    data[at:] = other[there:]


def _tags(data: bytearray, rng: random.Random, _other: bytes) -> None:
    size = rng.choice((0, 1, 10, 127, 4_000, 200 << 20, (1 << 28) - 1))
    synchsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    id3 = b"ID3" + bytes((rng.choice((2, 3, 4, 255)), 0, rng.choice((0, 0x10, 0x40, 0x80, 0xFF)))) + synchsafe
    ape = b"APETAGEX" + struct.pack(
        "<IIII8x", 2_000, size * 8, rng.randrange(1 << 32), rng.choice((0, 1 << 31, 0xA000_0000))
    )
    match rng.randrange(4):
        case 0:
            data[:0] = id3 * rng.choice((1, 2, 1_000))
        case 1:
            data[:0] = id3 + rng.randbytes(min(size, 4_000))
        case 2:
            data += ape
        case _:
            data += b"TAG" + rng.randbytes(125)


MUTATIONS: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    *(_bits, _bytes, _number, _size, _rate_or_channels, _floats, _cut),
    *(_delete, _insert, _repeat, _chunks, _splice, _tags),
)
WEIGHTS = (6, 6, 10, 8, 6, 3, 4, 3, 3, 2, 3, 3, 1)


# ---------------------------------------------------------------------- models and tables


def safetensors_mutant(seed: bytes, run: int, number: int) -> bytes:
    """A safetensors file whose header lies."""
    rng = random.Random(f"{run}/{number}")
    length = int.from_bytes(seed[:8], "little")
    header, body = seed[8 : 8 + length], seed[8 + length :]
    kind = rng.random()
    if kind < 0.2:
        data = bytearray(seed[: rng.choice((len(seed), 8 + length, 8 + length + 1_000))])
        for _ in range(rng.choice((1, 2, 4))):
            rng.choice((_bits, _bytes, _number, _cut, _delete, _insert))(data, rng, b"")
        return bytes(data)
    if kind < 0.3:
        claimed = rng.choice((*NUMBERS, length - 1, length + 1, len(seed))) % (1 << 64)
        return claimed.to_bytes(8, "little") + header + body[: rng.choice((0, 100, len(body)))]
    if kind < 0.45:
        text = bytearray(header)
        for _ in range(rng.choice((1, 2, 4))):
            rng.choice((_bits, _bytes, _delete, _insert))(text, rng, b"")
        return len(text).to_bytes(8, "little") + bytes(text) + body
    if kind < 0.55:
        deep = rng.choice((b"[", b'{"a":', b'{"__metadata__":')) * rng.choice((10, 1_000, 100_000))
        text = rng.choice((deep, b'{"__metadata__":{"dymn.config":"' + deep.replace(b'"', b'\\"') + b'"}}'))
        return len(text).to_bytes(8, "little") + text
    fields = json.loads(header)
    for _ in range(rng.choice((1, 1, 2))):
        _lie(fields, rng)
    text = json.dumps(fields).encode()
    if rng.random() < 0.1:  # a key twice
        key = rng.choice(sorted(fields))
        text = text[:-1] + b"," + json.dumps(key).encode() + b":" + json.dumps(fields[key]).encode() + b"}"
    return len(text).to_bytes(8, "little") + text + body[: rng.choice((len(body),) * 20 + (0, 8))]


ODD_VALUES = (
    None,
    True,
    "",
    "x",
    -1,
    0,
    1.5,
    1 << 31,
    1 << 63,
    1 << 64,
    10**400,
    [],
    {},
    [[]],
    "\ud800",
    "\0",
)


ODD_PARTS = (
    *("F16", "BF16", "F8_E5M2", "BOOL", "I64", "U8", [0], [1 << 40, 1 << 40], [-1, 4], [0, 8], [8, 0]),
    *([0, 1 << 62], [1 << 62, (1 << 62) + 4], [0] * 5_000, [1] * 100),
)


def _lie(fields: dict[str, object], rng: random.Random) -> None:
    if rng.random() < 0.75:
        meta = fields.get("__metadata__")
        if isinstance(meta, dict) and meta:
            _lie_in_metadata(meta, rng)
            return
    key = rng.choice(sorted(fields))
    entry = fields[key]
    match rng.randrange(4):
        case 0:
            del fields[key]
        case 1:
            fields[rng.choice(("", "x" * 1_000, "\0", key + " "))] = entry
        case 2:
            fields[key] = rng.choice(ODD_VALUES)
        case _ if isinstance(entry, dict) and entry:
            part = rng.choice(sorted(entry))
            entry[part] = rng.choice((*ODD_VALUES, *ODD_PARTS))
        case _:
            pass


def _lie_in_metadata(meta: dict[str, object], rng: random.Random) -> None:
    key = rng.choice(sorted(meta))
    value = meta[key]
    try:
        inner = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        inner = None
    if isinstance(inner, dict) and inner and rng.random() < 0.8:
        field = rng.choice(sorted(inner))
        inner[field] = rng.choice(
            (*ODD_VALUES, *NUMBERS, 1e308, float("nan"), float("inf"), -0.0, 1e-300, 16.0, [True] * 15)
        )
        meta[key] = json.dumps(inner)
    elif rng.random() < 0.3:
        del meta[key]
    elif isinstance(inner, list) and rng.random() < 0.5:
        meta[key] = json.dumps(
            [rng.choice(("Dog", "", "a" * 100_000, "\n", 1, None)) for _ in range(len(inner))]
        )
    else:
        meta[key] = rng.choice(
            (
                "",
                "0",
                "2",
                "null",
                "[]",
                "{}",
                "NaN",
                "[" * 100_000,
                "1" * 5_000,
                "\ud800",
                1,
                None,
                "audioset",
            )
        )


def table_mutant(seed: bytes, run: int, number: int) -> bytes:
    """A CSV file or a list of names with damage that text has."""
    rng = random.Random(f"{run}/{number}")
    data = bytearray(seed)
    pieces = (
        *(
            b"\0",
            b'"',
            b",",
            b"\n",
            b"\r",
            b"\r\n",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b"nan",
            b"inf",
            b"-1",
            b"1e999",
        ),
        *(
            b"\xd9\xa1",
            b"x" * 140_000,
            b"," * 5_000,
            b'"' * 999,
            b"threshold",
            b"label",
            b"mid",
            b"0x1p-1",
            b"1_0",
            b" 0.5 ",
        ),
    )
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if rng.random() < 0.5:
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.choice((0, 0, 1, 5))] = rng.choice(pieces)
        else:
            rng.choice((_bits, _bytes, _cut, _delete, _insert, _repeat))(data, rng, b"")
        del data[LONGEST:]
    return bytes(data)


PIECES = (
    *(b"cos\nsystem\n", b"(ios\nsystem\n", b"\x8c\2os\x8c\6system\x93", b"ctorch\nFloatStorage\n", b"\x82\1"),
    *(
        b"(",
        b"t",
        b")",
        b"\x85",
        b"\x86",
        b"]",
        b"a",
        b"e",
        b"}",
        b"s",
        b"u",
        b"R",
        b"b",
        b"o",
        b"\x81",
        b"Q",
    ),
    *(b"N", b"\x88", b"K\0", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\x7f" * 8, b"\x8a\xff", b"\x8b\0\0\0\x7f"),
    *(b"G" + b"\xff" * 8, b"X\0\0\0\0", b"X\xff\xff\xff\xff", b"\x8d" + b"\x7f" * 8, b"U\1x", b"h\0", b"q\0"),
    *(
        b"j\xff\xff\xff\xff",
        b"\x94",
        b"\x95" + b"\xff" * 8,
        b"0",
        b"1",
        b"2",
        b".",
        b"\x80\4",
        b"\x8f",
        b"\x97",
    ),
)


def _instruction(data: bytearray, rng: random.Random, _other: bytes) -> None:
    """Put a pickle instruction in place of another or between two, once or very often."""
    places = [place for _, _, place in _instructions(bytes(data))]
    at = rng.choice(places) if places else _at(data, rng)
    piece = rng.choice(PIECES) * rng.choice((1, 1, 1, 1, 2, 3, 30_000))
    data[at : at + rng.choice((0, 0, 1, len(piece)))] = piece


def _part_of_a_tensor(data: bytearray, rng: random.Random, _other: bytes) -> None:
    """Another size, stride, offset, number of values, key or kind of storage: the pickle stays sound."""
    found = [
        (name, value, place)
        for name, value, place in _instructions(bytes(data))
        if name in ("LONG1", "GLOBAL")
    ]
    if not found:
        return _number(data, rng, b"")
    name, value, place = rng.choice(found)
    if name == "GLOBAL":
        kind = rng.choice(
            (b"Float", b"Double", b"Half", b"BFloat16", b"Long", b"Bool", b"Char", b"ComplexFloat")
        )
        end = data.find(b"Storage", place)
        if str(value).endswith("Storage"):
            data[place + len(b"ctorch\n") : end] = kind
        return None
    other = rng.choice(
        (0, 1, 2, 3, -1, value + 1, value - 1, 2 * value, 1 << 20, 1 << 40, 1 << 62, -(1 << 62))
    )
    data[place : place + 2 + data[place + 1]] = b"\x8a\x09" + other.to_bytes(9, "little", signed=True)
    return None


@functools.lru_cache(maxsize=4)  # most mutants begin with the same pickle
def _instructions(data: bytes) -> list[tuple[str, Any, int]]:
    """Name, argument and place of every instruction up to the first that is none."""
    found = []
    with contextlib.suppress(ValueError, DeprecationWarning):  # of odd escapes in texts
        for opcode, argument, place in pickletools.genops(data):
            found.append((opcode.name, argument, place))
    return found


PICKLE_MUTATIONS = (*(_part_of_a_tensor,) * 4, *(_instruction,) * 3, _bytes, _number, _cut, _delete)


def checkpoint_mutant(seed: bytes, run: int, number: int) -> bytes:
    """A PyTorch checkpoint: a damaged archive, or a sound one around something else; the first is sound."""
    if number == 0:  # few are: a slow machine might not come to one
        return seed
    rng = random.Random(f"{run}/{number}")
    if rng.random() < 0.25:
        data = bytearray(seed)
        directory = data.find(b"PK\1\2")
        tail, damaged = data[directory:], rng.random() < 0.6
        part = tail if damaged else data
        for _ in range(rng.choice((1, 1, 2, 4))):
            rng.choice((_bits, _bytes, _number, _cut, _delete, _insert))(part, rng, b"")
        return bytes(data[:directory] + tail if damaged else data)
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        entries = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    names = sorted(entries)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind = rng.random()
        if kind < 0.8:
            change = rng.choice(PICKLE_MUTATIONS)
            change(entries.setdefault("archive/data.pkl", bytearray()), rng, b"")
        elif kind < 0.9:
            entries.pop(rng.choice(names), None)
        else:
            rng.choice((_floats, _cut, _delete, _insert))(
                entries.setdefault(rng.choice(names), bytearray()), rng, b""
            )
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", rng.choice((0, 0, 0, 0, 0, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), bytes(data), archive.compression)
    return memory.getvalue()


def onnx_mutant(seed: bytes, run: int, number: int) -> bytes:
    """A damaged protocol buffer; number 0 is whole: sound ones are rare, and each takes a process to try."""
    if number == 0:
        return seed
    rng = random.Random(f"{run}/{number}")
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(2_000))
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice((_bits, _bytes, _number, _cut, _delete, _insert, _repeat))(data, rng, b"")
        del data[LONGEST:]
    return bytes(data)
