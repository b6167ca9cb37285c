"""URIs as names: what is one, and which parts of it no result, journal or message may hold.

    https://me:pass@host/a.flac?take=2&X-Amz-Signature=89ab   is called   https://host/a.flac?take=2

Left out are user names and passwords, and parameters of the query that are called like a credential or are as
long as one. So a recording keeps its name when it is signed anew, and a run over signed addresses can be
continued. The whole address travels with the name, as an attribute of a string, and is used to open it.
"""

from __future__ import annotations

import os
import re

__all__ = [
    "OFFLINE",
    "Uri",
    "address_of",
    "base_name",
    "is_network",
    "is_offline",
    "is_uri",
    "join",
    "named",
    "schemes",
    "without_secrets",
]

OFFLINE = "DYMN_OFFLINE"
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+"  # two characters or more: one is a drive of Windows
URI = re.compile(rf"(?:{SCHEME}::)*({SCHEME})://")
URI_IN_TEXT = re.compile(rf"{SCHEME}://[^\s'\"<>]+")
AUTHORITY = re.compile(rf"({SCHEME}://)([^/?#]*@)")
QUERY = re.compile(r"\?([^#]*)")
HERE = {
    "file",
    "local",
    "memory",
    "zip",
    "tar",
    "libarchive",
    "dir",
    "simplecache",
    "filecache",
    "blockcache",
    "cached",
}
CONTAINERS = ("abfs://", "abfss://", "wasb://", "wasbs://")  # what stands before the @ there is no user
SECRET = re.compile(
    r"sig|token|secret|passw|pwd|credential|auth|key|jwt|session|ticket|hmac|^(x-)?(amz|goog|ms|oss|cos)-|^x-",
    re.I,
)
OF_SIGNATURES = re.compile(
    r"(expires?|policy|googleaccessid|se|sp|sv|sr|st|spr|sip|skoid|sktid|skt|ske|sks|skv)", re.I
)
LONGEST_PLAIN = 40  # characters; a signature by SHA-256 has 43 or more


class Uri(str):
    """A name without credentials, and the address that has them.

    Args:
        text: the name.
        address: what opens it.
    """

    __slots__ = ("address",)
    address: str

    def __new__(cls, text: str, address: str) -> Uri:
        """A string with one more attribute."""
        uri = super().__new__(cls, text)
        uri.address = address
        return uri

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the address as well, so that another process can open it."""
        return Uri, (str(self), self.address)


def is_offline() -> bool:
    """Whether the user has forbidden network access (`DYMN_OFFLINE`)."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false", "no", "off")


def is_uri(name: object) -> bool:
    """Whether a name is a URI and not that of a file; `./s3://x` is a file."""
    return isinstance(name, str) and URI.match(name) is not None


def named(address: str) -> str:
    """The name of an address: itself, unless it holds credentials; else a `Uri` without them.

    A name that is no URI stays as it is.
    """
    if isinstance(address, Uri):
        return address
    if ("@" not in address and "?" not in address) or not is_uri(address):  # nearly all of a million keys
        return address
    text = "::".join(_without_credentials(part) for part in address.split("::"))
    return address if text == address else Uri(text, address)


def address_of(name: str) -> str:
    """What opens a name."""
    return name.address if isinstance(name, Uri) else name


def _without_credentials(part: str) -> str:
    if not part.startswith(CONTAINERS):
        part = AUTHORITY.sub(r"\1", part, count=1)
    return QUERY.sub(lambda found: _plain_query(found[1]), part, count=1)


def _plain_query(query: str) -> str:
    pairs = [(pair.partition("=")[0], pair) for pair in query.split("&")]
    kept = [
        pair for name, pair in pairs if not (SECRET.search(name) or len(pair) - len(name) > LONGEST_PLAIN)
    ]
    if len(kept) < len(pairs):
        kept = [pair for pair in kept if not OF_SIGNATURES.fullmatch(pair.partition("=")[0])]
    return f"?{'&'.join(kept)}" if kept else ""


def without_secrets(text: str, name: str) -> str:
    """What a library says of a URI, in one line and without credentials."""
    address = address_of(name)
    if address != name:
        text = text.replace(address, name)
    line = next(iter(text.strip().splitlines()), "")
    return URI_IN_TEXT.sub(lambda found: str(named(found[0])), line)


def schemes(address: str) -> list[str]:
    """The schemes of a URI and of the archive that it lies in, unless that is a file: ["zip", "s3"]."""
    *inner, last = address.split("::")
    return [part.partition("://")[0].lower() for part in (*inner, *([last] if is_uri(last) else []))]


def is_network(address: str) -> bool:
    """Whether a URI leads away from this machine; of a scheme that is not known it is assumed."""
    return not HERE.issuperset(schemes(address))


def join(folder: str, inner: str) -> str:
    """The address of what lies in a folder, which may itself lie in an archive."""
    first, archive, rest = folder.partition("::")
    return f"{first}{'' if first.endswith('/') else '/'}{inner}{archive}{rest}"


def base_name(name: str) -> str:
    """The last part of a URI's path, without query: what the file would be called here."""
    first = name.partition("::")[0]
    return first.partition("://")[2].partition("?")[0].rstrip("/").rpartition("/")[2]
