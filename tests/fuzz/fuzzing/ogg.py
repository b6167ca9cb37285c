"""Ogg pages, as far as a mutation needs them: without a right checksum a page is only skipped."""

from __future__ import annotations

POLYNOMIAL = 0x04C11DB7
CRC_AT, SERIAL_AT, LACING_AT = 22, 14, 27


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (POLYNOMIAL if crc & 0x8000_0000 else 0)
        table.append(crc & 0xFFFF_FFFF)
    return table


TABLE = _table()


def pages(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Start and end of the pages that are whole."""
    found = []
    start = data.find(b"OggS")
    while start >= 0 and start + LACING_AT <= len(data):
        n_segments = data[start + LACING_AT - 1]
        lacing = data[start + LACING_AT : start + LACING_AT + n_segments]
        end = start + LACING_AT + n_segments + sum(lacing)
        if len(lacing) == n_segments and end <= len(data):
            found.append((start, end))
            start = data.find(b"OggS", end)
        else:
            start = data.find(b"OggS", start + 4)
    return found


def with_checksums(data: bytes, serial: int | None = None) -> bytes:
    """The same pages with right checksums, and with one serial number where it is given."""
    fixed = bytearray(data)
    for start, end in pages(fixed):
        if serial is not None:
            fixed[start + SERIAL_AT : start + SERIAL_AT + 4] = serial.to_bytes(4, "little")
        fixed[start + CRC_AT : start + CRC_AT + 4] = bytes(4)
        crc = 0
        for byte in fixed[start:end]:
            crc = (crc << 8 & 0xFFFF_FFFF) ^ TABLE[crc >> 24 ^ byte]
        fixed[start + CRC_AT : start + CRC_AT + 4] = crc.to_bytes(4, "little")
    return bytes(fixed)
