"""What fsspec's driver for the web leaves open: silent servers, wrong ranges, and errors in words.

By default, aiohttp waits five minutes for a silent server, and fsspec takes whatever a server sends as the
range that was asked for (RFC 9110, section 14.4, has its place in `Content-Range`).
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

__all__ = ["client_settings", "is_final", "reason_of"]

TIMEOUT_S = 30.0  # for the connection, and for the next bytes
FIRST_BYTE = re.compile(r"bytes[= ](\d+)-")


@functools.cache
def _own_settings() -> dict[str, Any]:
    import aiohttp

    checks = aiohttp.TraceConfig()
    checks.on_request_end.append(_require_range)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=TIMEOUT_S)
    return {"timeout": timeout, "trace_configs": [checks]}


def client_settings(configured: dict[str, Any]) -> dict[str, Any]:
    """The `client_kwargs` of fsspec's driver.

    Args:
        configured: those of the user's own configuration of fsspec, which take precedence.
    """
    return {**_own_settings(), **configured}


async def _require_range(session: object, context: object, request: Any) -> None:
    """Refuse a part of a file that begins elsewhere than asked for.

    Raises:
        ValueError: as fsspec does for servers without ranges, whose files are then read from the beginning.
    """
    asked = FIRST_BYTE.match(request.headers.get("Range", ""))
    given = FIRST_BYTE.match(request.response.headers.get("Content-Range", ""))
    if request.response.status == 206 and asked and given and int(asked[1]) != int(given[1]):
        request.response.close()
        raise ValueError(f"the server sent bytes from {given[1]} on, not from {asked[1]} on")


def is_final(cause: BaseException) -> bool:
    """Whether another try would end the same: redirects that lead nowhere."""
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(
        cause, aiohttp.TooManyRedirects | aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError
    )


def reason_of(cause: BaseException) -> str | None:
    """What went wrong, in words; None where the error has good ones itself."""
    if isinstance(cause, TimeoutError):
        return f"nothing came for {TIMEOUT_S:g} s"
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None:
        return None
    if isinstance(cause, aiohttp.TooManyRedirects):
        return "its redirects do not end"
    if isinstance(cause, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return "it redirects to an address that is not on the web"
    if isinstance(cause, aiohttp.ClientPayloadError):
        return "the connection broke off"
    return None
