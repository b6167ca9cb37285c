"""Names of what lies elsewhere: what is a URI, and what of it may be kept."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from dymn_cli.remote.uri import (
    Uri,
    address_of,
    base_name,
    is_network,
    is_uri,
    join,
    named,
    schemes,
    without_secrets,
)

SIGNATURE = "9f2b" * 16
SIGNED = (
    "https://bucket.s3.amazonaws.com/a%20b.flac?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential=AKIAEXAMPLE%2F20240101&X-Amz-Date=20240101T000000Z&X-Amz-Signature={SIGNATURE}"
)


@pytest.mark.parametrize(
    "name",
    [
        "s3://b/a.wav",
        "gs://b/",
        "https://h/x.flac",
        "hf://datasets/o/n/a.wav",
        "zip://a.wav::x.zip",
        "zip://a.wav::s3://b/x.zip",
        "simplecache::s3://b/a.wav",
        "memory://a.wav",
    ],
)
def test_a_scheme_makes_a_uri(name: str) -> None:
    assert is_uri(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.wav",
        "./s3://b/a.wav",
        r"C:\a.wav",
        "C://a.wav",
        "a::b.wav",
        "12:30.wav",
        "-",
        ":// .wav",
        b"s3://b",
    ],
)
def test_everything_else_is_a_file(name: object) -> None:
    assert not is_uri(name)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://me:pass@host:8443/a.flac", "https://host:8443/a.flac"),
        ("https://ghp_abcdef@host/a.flac", "https://host/a.flac"),
        ("sftp://me@host/a.flac", "sftp://host/a.flac"),
        (SIGNED, "https://bucket.s3.amazonaws.com/a%20b.flac"),
        (
            "https://s.googleapis.com/b/a.wav?GoogleAccessId=me&Expires=17&Signature=abc",
            "https://s.googleapis.com/b/a.wav",
        ),
        (
            "https://s.blob.core.windows.net/c/a.wav?sv=2022&st=1&se=2&sr=b&sp=r&sig=abc%3D",
            "https://s.blob.core.windows.net/c/a.wav",
        ),
        ("https://host/get?id=7&api_key=abc", "https://host/get?id=7"),
        ("https://host/get?id=7&password=abc#t=3", "https://host/get?id=7#t=3"),
        (f"https://host/get?what={SIGNATURE}", "https://host/get"),
        ("zip://a.wav::https://me:pass@host/x.zip?token=abc", "zip://a.wav::https://host/x.zip"),
    ],
)
def test_credentials_are_left_out_of_a_name(address: str, name: str) -> None:
    found = named(address)
    assert found == name
    assert address_of(found) == address
    assert address_of(pickle.loads(pickle.dumps(found))) == address, "a worker must be able to open it"
    for kept in (f"{found}", json.dumps(found), os.fsencode(found).decode(), repr(found), os.fsdecode(found)):
        assert kept.strip("'\"") == name


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/a.wav",
        "https://host/get?id=7&part=2",
        "https://host/get?st=4",  # no signature is with it
        "abfs://recordings@account.dfs.core.windows.net/a.wav",
        "s3://bucket/me@home: take 1.wav",
        "https://host/a@b.wav",
    ],
)
def test_what_is_no_credential_stays(address: str) -> None:
    assert named(address) is address
    assert not isinstance(named(address), Uri)


def test_what_libraries_say_has_no_credentials() -> None:
    name = named(SIGNED)
    said = f"403, message='Forbidden', url='{SIGNED}'\nsecond line"
    assert without_secrets(said, name) == f"403, message='Forbidden', url='{name}'"
    assert "pass" not in without_secrets("cannot reach https://me:pass@proxy:80/", "s3://b/a")


def test_schemes_tell_what_needs_the_network() -> None:
    assert schemes("zip://a.wav::s3://b/x.zip") == ["zip", "s3"]
    assert schemes("zip://a.wav::x.zip") == ["zip"]
    assert not is_network("zip://a.wav::x.zip")
    assert not is_network("file:///a.wav")
    assert is_network("zip://a.wav::s3://b/x.zip")
    assert is_network("simplecache::https://h/x.flac")
    assert is_network("somethingnew://a.wav")


def test_names_are_joined_in_front_of_their_archive() -> None:
    assert join("s3://b/in", "a/b.wav") == "s3://b/in/a/b.wav"
    assert join("s3://b/", "a.wav") == "s3://b/a.wav"
    assert join("zip://::x.zip", "a.wav") == "zip://a.wav::x.zip"
    assert join("zip://in/::s3://b/x.zip", "a.wav") == "zip://in/a.wav::s3://b/x.zip"


def test_the_last_part_is_what_the_file_would_be_called() -> None:
    assert base_name("s3://b/in/a.wav") == "a.wav"
    assert base_name("https://h/a.flac?x=/b.wav") == "a.flac"
    assert base_name("zip://in/a.wav::s3://b/x.zip") == "a.wav"
