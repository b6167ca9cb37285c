"""URIs in the real program: workers, a web server and an S3 server on loopback, credentials, memory."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from stores import SECRET, Bucket, Objects

pytest.importorskip("fsspec", reason="the extra `remote`")

pytestmark = pytest.mark.process

MOST_MB = 300
N_KEYS = 1_000_000


def take(seed: int, seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(seed).standard_normal(int(8_000 * seconds))
    soundfile.write(file, noise, 8_000, format="WAV")
    return file.getvalue()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------- the web


def test_workers_read_the_web_and_nothing_holds_credentials(
    objects: Objects, dymn: Any, tmp_path: Path
) -> None:
    signature = "5ig" * 20
    names = []
    for n in range(20):
        objects.put(f"take{n}.wav", take(n), login="Basic bWU6cGFzc3dvcmQ=")
        names.append(f"http://me:password@{objects.host}/take{n}.wav?n={n}&X-Amz-Signature={signature}")
    objects.put("broken.wav", b"RIFF\x24\0\0\0WAVE")
    objects.put("gone.wav", take(0), statuses=[403] * 99)
    names += [f"http://{objects.host}/{name}.wav?token={signature}" for name in ("broken", "gone", "none")]
    (dymn.cwd / "list").write_text("\n".join(names))
    ran = dymn("tag", "--files-from", "list", "-o", "tags.csv", "-k", 1, "-j", 2, "-vv", "--window", 0.5)
    assert ran.returncode == 6, ran.err
    rows = rows_of(dymn.cwd / "tags.csv")
    assert [row["source"] for row in rows] == [f"http://{objects.host}/take{n}.wav?n={n}" for n in range(20)]
    failed = rows_of(dymn.cwd / "tags.csv.failures.csv")
    assert [row["source"] for row in failed] == [
        f"http://{objects.host}/{name}.wav" for name in ("broken", "gone", "none")
    ]
    assert (dymn.cwd / "tags.csv.journal").is_file()
    (dymn.cwd / "list").unlink()
    for kept in (ran.stdout, ran.stderr, everything_in(tmp_path)):
        assert b"password" not in kept
        assert signature.encode() not in kept
    # Signed anew, and none is read again.
    asked = len(objects.asked)
    fresh = [name.replace(signature, "new" * 20) for name in names[:20]]
    (dymn.cwd / "list").write_text("\n".join([*fresh, *names[20:]]))
    ran = dymn("tag", "--files-from", "list", "-o", "tags.csv", "-k", 1, "-j", 2, "--window", 0.5)
    assert "20 results were there already, 0 are new" in ran.err
    assert [path for method, path, _ in objects.asked[asked:] if method == "GET" and "take" in path] == []


def test_a_page_about_a_result_on_the_web_holds_no_credentials(objects: Objects, dymn: Any) -> None:
    rows = "source,channel,start_s,end_s,label,mid,score\ntake.wav,mix,0.1,0.3,Dog,/m/0bt9lr,0.9\n"
    objects.put("e.csv", rows.encode(), login="Basic bWU6cGFzc3dvcmQ=")
    (dymn.cwd / "take.wav").write_bytes(take(0))
    ran = dymn("report", f"http://me:password@{objects.host}/e.csv?n=1&token={'5ig' * 20}", "-o", "page.html")
    assert ran.returncode == 0, ran.err
    page = (dymn.cwd / "page.html").read_bytes()
    assert b"e.csv?n=1" in page
    for kept in (page, ran.stdout, ran.stderr):
        assert b"password" not in kept
        assert b"5ig5ig" not in kept


def test_a_failure_with_a_trace_shows_no_credentials(objects: Objects, dymn: Any) -> None:
    address = f"http://me:password@{objects.host}/none.wav?sig=abcdef"
    ran = dymn("tag", address, "-vv", env={"DYMN_DEBUG": "1"})
    assert ran.returncode == 3
    assert b"none.wav: no such file" in ran.stderr
    shown = ran.stderr.replace(address.encode(), b"")
    assert b"password" not in shown
    assert b"abcdef" not in shown


def test_a_worker_that_hangs_on_a_store_costs_its_file(objects: Objects, dymn: Any) -> None:
    objects.put("slow.wav", (1 << 20, lambda start, end: __import__("time").sleep(30) or b""))
    names = [objects.put(f"take{n}.wav", take(n)) for n in range(3)]
    slow = f"http://{objects.host}/slow.wav"
    ran = dymn("tag", names[0], slow, *names[1:], "-k", 1, "-j", 2, "--limit-per-file", 8, "--window", 0.5)
    assert ran.returncode == 6
    assert [row[0] for row in ran.rows] == names
    assert f"{slow}: not done after 8 s" in ran.err


# ---------------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def bucket(s3: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,100 keys of 12 recordings in the bucket, more than a page; the recordings as files."""
    folder = tmp_path_factory.mktemp("takes")
    for n in range(12):
        (folder / f"take{n}.wav").write_bytes(take(n))
    s3[0](
        textwrap.dedent(f"""
            for n in range(12):
                data = open(f'{folder}/take{{n}}.wav', 'rb').read()
                c.put_object(Bucket='rec', Key=f'in/take{{n}}.wav', Body=data)
            c.put_object(Bucket='rec', Key='in/', Body=b'')
            c.put_object(Bucket='rec', Key='in/notes.txt', Body=b'x')
            for n in range(1100):
                c.put_object(Bucket='rec', Key=f'many/{{n}}.wav', Body=b'x')
        """)
    )
    return folder


def test_a_bucket_is_tagged_into_a_bucket(s3: Bucket, bucket: Path, dymn: Any, tmp_path: Path) -> None:
    client, env = s3
    out = ("-k", 2, "--window", 0.5, "-j", 2)
    ran = dymn("tag", "s3://rec/in/", "-o", "s3://out/tags.csv", *out, "-vv", env=env)
    assert ran.returncode == 0, ran.err
    assert ran.stdout == b""
    assert dymn("tag", bucket, "-o", "tags.csv", *out).returncode == 0
    body = client("print(json.dumps(c.get_object(Bucket='out', Key='tags.csv')['Body'].read().decode()))")
    local = (dymn.cwd / "tags.csv").read_text().replace(f"{bucket}/", "s3://rec/in/")
    assert sorted(body.splitlines()) == sorted(local.splitlines())
    left = client("print(json.dumps([o['Key'] for o in c.list_objects_v2(Bucket='out')['Contents']]))")
    assert left == ["tags.csv", "tags.csv.meta.json"]
    assert SECRET.encode() not in ran.stderr + everything_in(tmp_path)
    again = dymn("tag", "s3://rec/in/", "-o", "s3://out/tags.csv", *out, env=env)
    assert (again.returncode, "the file exists" in again.err) == (5, True)
    converted = dymn("convert", "s3://out/tags.csv", "-f", "csv", env=env)
    assert (converted.returncode, converted.out) == (0, body)
    gone = dymn("convert", "s3://out/none.csv", "-f", "csv", env=env)
    assert (gone.returncode, gone.err) == (3, "dymn: error: s3://out/none.csv: no such file\n")


def test_the_store_itself_keeps_two_runs_from_one_name(s3: Bucket, tmp_path: Path, dymn: Any) -> None:
    client, env = s3
    client("c.put_object(Bucket='out', Key='taken.csv', Body=b'mine')")
    (tmp_path / "x").write_bytes(b"theirs")
    code = textwrap.dedent(f"""
        from dymn_cli.remote import store
        store.exists = lambda name: False  # it has appeared since
        try:
            store.upload({str(tmp_path / "x")!r}, "s3://out/taken.csv", replace=False)
        except FileExistsError:
            print("refused")
    """)
    ran = dymn.python(code, env=env)
    assert ran.out == "refused\n", ran.err
    assert (
        client("print(json.dumps(c.get_object(Bucket='out', Key='taken.csv')['Body'].read().decode()))")
        == "mine"
    )


def test_a_bucket_is_listed_page_by_page(s3: Bucket, bucket: Path, dymn: Any) -> None:
    _, env = s3
    ran = dymn("tag", "s3://rec/", "--dry-run", env=env)
    keys = [f"in/take{n}.wav" for n in range(12)] + [f"many/{n}.wav" for n in range(1100)]
    assert ran.out.splitlines() == [f"s3://rec/{key}" for key in sorted(keys)]
    assert dymn("tag", "s3://rec/in", "--dry-run", env=env).out.count("\n") == 12
    assert dymn("tag", "s3://rec/many/", "--dry-run", "--shard", "2/2", env=env).out.count("\n") == 550


def test_a_stopped_run_over_a_bucket_goes_on(s3: Bucket, bucket: Path, dymn: Any) -> None:
    client, env = s3
    client("c.put_object(Bucket='rec', Key='in/take99.wav', Body=b'RIFF')")
    try:
        run = ("tag", "s3://rec/in/", "-o", "s3://out/again.csv", "-k", 1, "--window", 0.5)
        assert dymn(*run, env=env).returncode == 6
        keys = client("print(json.dumps([o['Key'] for o in c.list_objects_v2(Bucket='out')['Contents']]))")
        assert "again.csv.failures.csv" in keys
        assert list(Path(dymn.env["DYMN_HOME"]).rglob("*.journal")) != []
        client("c.copy_object(Bucket='rec', Key='in/take99.wav', CopySource='rec/in/take3.wav')")
        client("c.copy_object(Bucket='rec', Key='in/take5.wav', CopySource='rec/in/take3.wav')")
        ran = dymn(*run, env=env)
        assert ran.returncode == 0, ran.err
        assert "11 results were there already, 2 are new" in ran.err
        assert list(Path(dymn.env["DYMN_HOME"]).rglob("*.journal")) == []
    finally:
        client("c.delete_object(Bucket='rec', Key='in/take99.wav')")


def test_a_bucket_that_is_not_there_is_one_line(s3: Bucket, dymn: Any) -> None:
    _, env = s3
    ran = dymn("tag", "s3://no-such-bucket/in/", env=env)
    assert (ran.returncode, ran.err.count("\n")) == (3, 1)
    assert ran.err.startswith("dymn: error: s3://no-such-bucket/in/: no such file")
    ran = dymn("tag", "s3://rec/in/none.wav", env=env)
    assert (ran.returncode, ran.err) == (3, "dymn: error: s3://rec/in/none.wav: no such file\n")


def test_an_archive_in_a_bucket_and_a_list_in_another(s3: Bucket, bucket: Path, dymn: Any) -> None:
    client, env = s3
    client(
        textwrap.dedent(f"""
            import io, zipfile
            file = io.BytesIO()
            with zipfile.ZipFile(file, 'w') as archive:
                for n in range(3):
                    archive.write(f'{bucket}/take{{n}}.wav', f'in/take{{n}}.wav')
            c.put_object(Bucket='rec', Key='zip/x.zip', Body=file.getvalue())
            c.put_object(Bucket='out', Key='list.txt', Body=b's3://rec/in/take1.wav\\ns3://rec/in/take2.wav\\n')
        """)
    )
    ran = dymn(
        "tag",
        "zip://::s3://rec/zip/x.zip",
        "-k",
        1,
        "-j",
        2,
        "--limit-per-file",
        50,
        "--window",
        0.5,
        env=env,
    )
    assert [row[0] for row in ran.rows] == [f"zip://in/take{n}.wav::s3://rec/zip/x.zip" for n in range(3)], (
        ran.err
    )
    ran = dymn("info", "--files-from", "s3://out/list.txt", env=env)
    assert [row[0] for row in ran.rows] == ["s3://rec/in/take1.wav", "s3://rec/in/take2.wav"]


# ---------------------------------------------------------------------- memory


FAKES = """
import sys
import fsspec
from fsspec import AbstractFileSystem

N = int(sys.argv[1])

class Flat(AbstractFileSystem):  # a bucket without folders, in pages
    protocol = "s3"
    cachable = False
    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("s3://").rstrip("/")
    def call_s3(self, method, **asked):
        start = int(asked.get("ContinuationToken", 0))
        page = [{"Key": f"archive/site/{n:09}_20240101_000000.wav", "Size": 320044, "ETag": f'"{n:032x}"'}
                for n in range(start, start + 1000)]
        return {"Contents": page, "IsTruncated": start + 1000 < N, "NextContinuationToken": str(start + 1000)}

class Deep(AbstractFileSystem):  # a thousand folders, as the drivers of other stores list them
    protocol = "deep"
    cachable = False
    def info(self, path, **kwargs):
        return {"name": path, "size": 0, "type": "directory"}
    def ls(self, path, detail=True, **kwargs):
        if path.count("/") < 1:
            return [{"name": f"{path}/{n:06}", "size": 0, "type": "directory"} for n in range(N // 1000)]
        more = {str(k): str(k) for k in range(20)}
        return [{"name": f"{path}/{n:09}_20240101_000000.wav", "size": 320044, "type": "file",
                 "etag": f"{n:032x}", **more} for n in range(1000)]

fsspec.register_implementation("s3", Flat, clobber=True)
fsspec.register_implementation("deep", Deep, clobber=True)
from dymn_cli.cli.app import run
code = run(sys.argv[2:])
# Not by getrusage, which counts what the parent had when it started this process.
with open("/proc/self/status") as status:
    most = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(code, most, file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak of memory")
@pytest.mark.parametrize(
    ("shape", "n_keys", "share"),
    [
        ("s3://bucket/archive/", N_KEYS, ()),
        ("s3://bucket/archive/", N_KEYS, ("--shard", "2/2")),  # all must be known
        ("deep://archive/", N_KEYS // 10, ()),
    ],
    ids=["pages", "share", "folders"],
)
def test_a_million_keys_are_listed_in_little_memory(
    repository: Path, tmp_path: Path, shape: str, n_keys: int, share: tuple[str, ...]
) -> None:
    with (tmp_path / "names").open("wb") as out:
        ran = subprocess.run(
            [sys.executable, "-c", FAKES, str(n_keys), "tag", shape, "--dry-run", *share],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(repository)},
            check=True,
        )
    code, most_mb = ran.stderr.split()[-2:]
    assert code == "0", ran.stderr
    with (tmp_path / "names").open("rb") as names:
        assert sum(1 for _ in names) == n_keys // (2 if share else 1)
    assert float(most_mb) < MOST_MB
