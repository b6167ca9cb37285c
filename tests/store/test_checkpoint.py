"""PyTorch checkpoints without PyTorch: the same values, nothing executed, nothing that grows."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing.torchfile import Call, Named, Raw, archive, checkpoint, described, pickled, tensor

from dymn_cli.errors import ModelError, UnsafeWeightsError, WeightsMissingError
from dymn_cli.store.checkpoint import read_checkpoint

Save = Callable[[Any], Path]


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "conv.weight": rng.normal(size=(4, 3, 2)).astype(np.float32),
        "conv.bias": rng.normal(size=4).astype(np.float32),
        "norm.num_batches_tracked": np.array(7, np.int64),
        "nothing": np.zeros((0, 5), np.float32),
    }


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write bytes under the name of a checkpoint."""

    def write(data: bytes) -> Path:
        path = tmp_path / "x.pt"
        path.write_bytes(data)
        return path

    return write


def same(read: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(read) == list(expected)
    for key, value in read.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        assert value.shape == expected[key].shape
        np.testing.assert_array_equal(value, expected[key].astype(np.float32))


# ---------------------------------------------------------------------- what torch writes


@pytest.fixture
def save(tmp_path: Path) -> Save:
    torch = pytest.importorskip("torch")

    def write(value: Any, **options: Any) -> Path:
        path = tmp_path / "saved.pt"
        torch.save(value, path, **options)
        return path

    return write


def like_torch(
    path: Path, unwrap: Callable[[Any], Any] = lambda value: value, *, weights_only: bool = True
) -> None:
    import torch

    loaded = unwrap(torch.load(path, weights_only=weights_only))
    same(read_checkpoint(path), {key: value.detach().float().numpy() for key, value in loaded.items()})


@pytest.mark.parametrize(
    "kind",
    ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"],
)
def test_every_kind_of_number_is_what_torch_reads(kind: str, save: Save) -> None:
    import torch

    numbers = torch.tensor([[0.0, 1.0, 2.5], [-3.25, 100.0, 0.1]])
    numbers = numbers.abs() if kind == "uint8" else numbers
    like_torch(save({"x": numbers.to(getattr(torch, kind))}))


def test_views_are_what_torch_reads(save: Save) -> None:
    import torch

    base = torch.arange(60.0).reshape(3, 4, 5)
    column = torch.arange(6.0).reshape(3, 2)
    like_torch(
        save(
            {
                "whole": base,
                "turned": base.permute(2, 0, 1),
                "steps": base[:, ::2, 1:4],
                "row": base[1, 2],
                "one": base[2, 3, 4],
                "nothing": base[:0],
                "repeated": column[:, :1].expand(3, 7),
                "again": base,
                "half": base.half()[1:, 1],
                "parameter": torch.nn.Parameter(base[0]),
                "scalar": torch.tensor(3.5),
                "flat": torch.empty(0),
            }
        )
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickles(protocol: int, save: Save) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 2), torch.nn.BatchNorm2d(3))
    path = save(module.state_dict(), pickle_protocol=protocol)
    like_torch(path, weights_only=protocol == 2)  # torch's own safe reader knows no other


def test_parts_of_one_storage_do_not_share_memory(save: Save) -> None:
    import torch

    base = torch.arange(8.0)
    read = read_checkpoint(save({"left": base[:5], "right": base[3:], "all": base}))
    read["left"][:] = -1
    np.testing.assert_array_equal(read["right"], [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(read["all"], np.arange(8))


def test_a_training_program_wraps_the_state_dict(save: Save) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"epoch": 3, "best": 0.5, "optimizer": optimizer.state_dict(), "model": module.state_dict()}
    like_torch(save(state), lambda value: value["model"])


def test_hand_made_checkpoints_are_what_torch_writes(
    put: Callable[[bytes], Path], values: dict[str, np.ndarray]
) -> None:
    """So the tests below prove something without torch."""
    torch = pytest.importorskip("torch")
    loaded = torch.load(put(checkpoint(values)), weights_only=True)
    same({key: value.float().numpy() for key, value in loaded.items()}, values)


def test_the_published_checkpoint(shared: Path) -> None:
    torch = pytest.importorskip("torch")
    path = shared / "weights" / "mn04_as_mAP_432.pt"
    read, loaded = read_checkpoint(path), torch.load(path, weights_only=True)
    same(read, {key: value.float().numpy() for key, value in loaded.items()})
    assert len(read) == 312


def test_a_published_checkpoint_reads_as_torch_reads_it(shared: Path) -> None:
    torch = pytest.importorskip("torch")
    path = shared / "weights" / "dymn04_kd.pt"
    read = read_checkpoint(path)
    by_torch = torch.load(path, weights_only=True)
    same(read, {key: by_torch[key].numpy() for key in read})
    assert all(key.endswith("num_batches_tracked") for key in by_torch.keys() - read.keys())


# ---------------------------------------------------------------------- the same without torch


def test_a_state_dict_comes_back(put: Callable[[bytes], Path], values: dict[str, np.ndarray]) -> None:
    same(read_checkpoint(put(checkpoint(values))), values)


@pytest.mark.parametrize("order", ["little", "big", None])
def test_both_orders_of_bytes(order: str | None, put: Callable[[bytes], Path]) -> None:
    spelled = ">" if order == "big" else "<"
    storages = {
        "0": np.array([1.5, -2.0, 3e-8], f"{spelled}f4").tobytes(),
        "1": np.array([258, 65_535], f"{spelled}i8").tobytes(),
        "2": np.array([0x3FC0, 0xC000], f"{spelled}u2").tobytes(),
    }
    entries = {
        "float": tensor("0", (3,)),
        "long": tensor("1", (2,), kind="Long"),
        "brain": tensor("2", (2,), kind="BFloat16"),
    }
    read = read_checkpoint(put(archive(pickled(entries), storages, byteorder=order)))
    np.testing.assert_array_equal(read["float"], np.float32([1.5, -2.0, 3e-8]))
    np.testing.assert_array_equal(read["long"], [258, 65_535])
    np.testing.assert_array_equal(read["brain"], [1.5, -2.0])


NETWORK = {"features.0.0.weight": np.ones((2, 1, 3, 3), np.float32), "features.1.x": np.zeros(2, np.float32)}
OTHER = {"mel.window": np.ones(5, np.float32)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda entries: entries,
        lambda entries: {"state_dict": entries, "epoch": 3, "hyper_parameters": {"lr": 1e-3}},
        lambda entries: {"model": entries, "optimizer": {"state": {0: {"step": 1}}}},
        lambda entries: {"net": {"state_dict": entries}},
        lambda entries: {f"net.{key}": value for key, value in entries.items()},
        lambda entries: {"state_dict": {f"model.{key}": value for key, value in entries.items()}},
        lambda entries: {f"module._orig_mod.{key}": value for key, value in entries.items()},
        lambda entries: {**entries, "epoch": 3, "note": "x"},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(
    wrap: Callable[[Any], Any], put: Callable[[bytes], Path]
) -> None:
    entries, storages = described(NETWORK)
    same(read_checkpoint(put(archive(pickled(wrap(entries)), storages))), NETWORK)


def test_what_is_beside_the_network_is_left_out(put: Callable[[bytes], Path]) -> None:
    prefixed = {f"net.{key}": value for key, value in NETWORK.items()}
    same(read_checkpoint(put(checkpoint({**OTHER, **prefixed}))), NETWORK)


def test_several_networks_are_too_many(put: Callable[[bytes], Path]) -> None:
    both = {f"{name}.{key}": value for name in ("student", "teacher") for key, value in NETWORK.items()}
    with pytest.raises(ModelError, match=r"holds 2 networks, .*'student\.', 'teacher\.'"):
        read_checkpoint(put(checkpoint(both)))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, "holds no tensors, but nothing"),
        ({"epoch": 3, "best": 0.5}, "holds no tensors, but 'epoch', 'best'"),
        ([1, 2], "holds no state dict, but one value of type list"),
        (None, "holds no state dict, but one value of type NoneType"),
        (tensor("0", (1,)), "holds no state dict, but one value of type tensor"),
        ({3: tensor("0", (1,))}, "a tensor under the key 3"),
        ({"a\nb": tensor("0", (1,))}, r"a tensor under the key 'a\\nb'"),
        ({"x" * 300: tensor("0", (1,))}, "a tensor under the key"),
        (
            {"model": {"model": {"model": {"model": {"model": {}}}}}},
            "holds no state dict, but one value of type dict",
        ),
    ],
)
def test_what_is_no_state_dict_is_named(value: Any, told: str, put: Callable[[bytes], Path]) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        read_checkpoint(put(archive(pickled(value), {"0": b"\0\0\0\0"})))
    assert "torch.save(model.state_dict()" in (caught.value.hint or "")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(bad: float, put: Callable[[bytes], Path]) -> None:
    with pytest.raises(ModelError, match=r"x\.pt: b holds values that are not finite"):
        read_checkpoint(put(checkpoint({"a": np.ones(3), "b": np.array([0.0, bad])})))


def test_a_counter_that_overflows_half_precision_does_not_matter(put: Callable[[bytes], Path]) -> None:
    state = {"a.weight": np.ones(3, np.float16), "norm.num_batches_tracked": np.float16([np.inf])}
    assert read_checkpoint(put(checkpoint(state)))["a.weight"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["u1", "i4", "i8"])
def test_quantised_weights_are_refused(kind: str, put: Callable[[bytes], Path]) -> None:
    state = {"norm.num_batches_tracked": np.array(7, "i8"), "a.weight": np.ones(3, kind)}
    with pytest.raises(ModelError, match=r"x\.pt: a\.weight holds whole numbers"):
        read_checkpoint(put(checkpoint(state)))


def test_only_the_state_dict_is_looked_at(put: Callable[[bytes], Path]) -> None:
    """The state of an optimiser may hold what it likes, and costs no time."""
    entries, storages = described({"w": np.ones(2, np.float32), "diverged": np.array([np.nan])})
    value = {"model": {"w": entries["w"]}, "optimizer": {"state": {0: entries["diverged"]}}}
    same(read_checkpoint(put(archive(pickled(value), storages))), {"w": np.ones(2, np.float32)})


# ---------------------------------------------------------------------- nothing is executed


class Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_program_in_a_checkpoint_is_not_executed(tmp_path: Path, put: Callable[[bytes], Path]) -> None:
    target = tmp_path / "harm"
    for protocol in (2, 4):
        data = pickle.dumps(collections.OrderedDict(x=Harm(target)), protocol)
        with pytest.raises(UnsafeWeightsError, match=r"x\.pt asks for '.*': dymn reads only tensors"):
            read_checkpoint(put(archive(data, {})))
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "torch.load", "torch._utils._rebuild_tensor", "torch.hub.load"),
        *("models.dymn.model.DyMN", "argparse.Namespace", "collections.defaultdict", "torch.nn.Linear"),
        *("torch.ComplexFloatStorage", "torch.FloatStorage.from_file", "numpy.core.multiarray.scalar"),
    ],
)
def test_every_other_global_is_refused_by_name(name: str, put: Callable[[bytes], Path]) -> None:
    entries, storages = described(NETWORK)
    for value in (Named(name), Call(name, ("x",))):
        with pytest.raises(UnsafeWeightsError) as caught:
            read_checkpoint(put(archive(pickled({**entries, "extra": value}), storages)))
        assert f"asks for '{name}'" in caught.value.message
        assert "nothing was executed" in caught.value.message
        assert "state_dict" in (caught.value.hint or "")


def test_a_whole_module_is_refused_by_its_class(save: Save) -> None:
    import torch

    with pytest.raises(UnsafeWeightsError, match=r"asks for 'torch\.nn\.modules\.linear\.Linear'"):
        read_checkpoint(save(torch.nn.Linear(2, 2)))


# ---------------------------------------------------------------------- sizes and places


def of(entry: Any, storages: dict[str, bytes] | None = None, **others: Any) -> bytes:
    return archive(pickled({"x": entry}), {"0": bytes(64)} if storages is None else storages, **others)


HOOKS = Call("collections.OrderedDict", ())
LIES: dict[str, tuple[bytes, str]] = {
    "a tensor longer than its storage": (of(tensor("0", (17,), n_values=16)), "beyond its storage"),
    "a tensor that starts too late": (of(tensor("0", (16,), offset=1)), "beyond its storage"),
    "strides beyond the end": (of(tensor("0", (2, 2), n_values=16, strides=(1, 15))), "beyond its storage"),
    "a negative stride": (of(tensor("0", (2,), n_values=16, strides=(-1,))), "impossible stride"),
    "a negative size": (of(tensor("0", (-2,), n_values=16)), "impossible shape"),
    "a negative offset": (of(tensor("0", (2,), n_values=16, offset=-1)), "impossible offset"),
    "an offset of exabytes": (of(tensor("0", (1,), n_values=16, offset=1 << 62)), "impossible offset"),
    "a size that is true": (of(tensor("0", (True,), n_values=16, strides=(1,))), "impossible shape"),
    "a size of a float": (of(tensor("0", (2.0,), n_values=16, strides=(1,))), "impossible shape"),
    "a size that overflows": (of(tensor("0", (1 << 63,), n_values=16, strides=(0,))), "impossible shape"),
    "hundreds of dimensions": (of(tensor("0", (1,) * 200, n_values=16)), "impossible shape"),
    "a stride too few": (of(tensor("0", (2, 2), n_values=16, strides=(1,))), "impossible stride"),
    "one value a billion times": (of(tensor("0", (1 << 30,), n_values=16, strides=(0,))), "take over"),
    "emptiness of all sizes": (
        of(tensor("0", (0, 1 << 40, 1 << 40), n_values=16, strides=(1, 1, 1))),
        "take over",
    ),
    "one storage many times": (
        archive(pickled({f"x{n}": tensor("0", (1 << 20,)) for n in range(100)}), {"0": bytes(4 << 20)}),
        "take over",
    ),
    "a storage shorter than it says": (of(tensor("0", (2,), n_values=1000)), "64 bytes"),
    "a storage longer than it says": (of(tensor("0", (2,), n_values=2)), "64 bytes"),
    "a storage of half a value": (of(tensor("0", (16,)), {"0": bytes(63)}), "63 bytes"),
    "a storage of other numbers": (of(tensor("0", (16,), kind="Double")), "64 bytes"),
    "a storage that is not there": (of(tensor("7", (16,))), "lacks the entry 'data/7'"),
    "a storage elsewhere": (of(tensor("../data.pkl", (16,))), "no PyTorch checkpoint has"),
    "a storage of many names": (of(tensor("٣", (16,))), "no PyTorch checkpoint has"),
    "a reference to nothing": (of(Raw(b"NQ")), "refers to something other than a storage"),
    "a tensor of no storage": (
        of(Call("torch._utils._rebuild_tensor_v2", ("0", 0, (1,), (1,), False, HOOKS))),
        "describes a tensor in an unknown way",
    ),
    "a tensor of too little": (
        of(Call("torch._utils._rebuild_tensor_v2", ())),
        "describes a tensor in an unknown way",
    ),
    "a negated view": (
        of(Call("torch._utils._rebuild_tensor_v2", (*tensor("0", (16,)).arguments, {"neg": True}))),
        "describes a tensor in an unknown way",
    ),
    "a parameter of nothing": (
        of(Call("torch._utils._rebuild_parameter", (None, True, HOOKS))),
        "describes a parameter in an unknown way",
    ),
    "a third order of bytes": (of(tensor("0", (16,)), byteorder="middle"), "byte order 'middle'"),
    "compressed entries": (of(tensor("0", (16,)), compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "two pickles": (
        of(1, others={"_/data.pkl": b"."}).replace(b"archive/_/data.pkl", b"archive_2/data.pkl"),
        "not a PyTorch checkpoint",
    ),
    "a TorchScript program": (of(tensor("0", (16,)), others={"constants.pkl": b"."}), "TorchScript"),
    "another zip file": (archive(b"", {}).replace(b"data.pkl", b"what.xyz"), "not a PyTorch checkpoint"),
    "a damaged pickle": (archive(b"\x80\x02", {}), "cut short"),
    "too many instructions": (archive(b"\x80\x02" + b"N" * 1_000_001, {}), "1,000,000 pickle instructions"),
    "an endless pickle": (archive(bytes((16 << 20) + 1), {}), "to list its tensors"),
}


@pytest.mark.parametrize("case", LIES)
def test_lies_about_sizes_and_places_are_seen(case: str, put: Callable[[bytes], Path]) -> None:
    data, told = LIES[case]
    path = put(data)
    tracemalloc.start()
    with pytest.raises(UnsafeWeightsError) as caught:
        read_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told in caught.value.message
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    assert peak < (200 << 20)


def twice(name: str) -> bytes:
    memory = io.BytesIO(of(tensor("0", (16,))))
    with zipfile.ZipFile(memory, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(name, b"other")
    return memory.getvalue()


def test_two_entries_of_one_name_are_refused(put: Callable[[bytes], Path]) -> None:
    with pytest.raises(UnsafeWeightsError, match="two entries of one name"):
        read_checkpoint(put(twice("archive/data/0")))


def patched(data: bytes, signature: bytes, name: bytes, field: int, value: bytes) -> bytes:
    """Change a field in the record of an entry: b"PK\\1\\2" in the directory, b"PK\\3\\4" before its data."""
    length = {b"PK\1\2": 46, b"PK\3\4": 30}[signature]
    at = next(
        n for n in range(len(data)) if data[n:].startswith(signature) and data[n + length :].startswith(name)
    )
    return data[: at + field] + value + data[at + field + len(value) :]


HUGE = struct.pack("<I", 0xFFFF_0000)


@pytest.mark.parametrize(
    ("signature", "field", "value"),
    [
        (b"PK\1\2", 24, HUGE),  # size
        (b"PK\1\2", 20, HUGE + HUGE),  # both sizes
        (b"PK\1\2", 20, struct.pack("<II", 65, 65)),  # a byte too many
        (b"PK\1\2", 42, HUGE),  # where it is
        (b"PK\1\2", 16, b"\1\2\3\4"),  # checksum
        (b"PK\1\2", 8, b"\1\0"),  # encrypted
        (b"PK\1\2", 10, b"\x63\0"),  # a method of compression that there is not
        (b"PK\1\2", 6, b"\xff\0"),  # needs a newer reader
        (b"PK\3\4", 0, b"PK\5\6"),
        (b"PK\3\4", 30, b"Archive"),
    ],
)
def test_lies_of_the_archive_are_seen(
    signature: bytes, field: int, value: bytes, put: Callable[[bytes], Path]
) -> None:
    data = patched(of(tensor("0", (16,))), signature, b"archive/data/0", field, value)
    with pytest.raises(UnsafeWeightsError) as caught:
        read_checkpoint(put(data))
    assert "\n" not in caught.value.message


def test_a_flipped_bit_in_the_numbers_is_seen(
    put: Callable[[bytes], Path], values: dict[str, np.ndarray]
) -> None:
    data = bytearray(checkpoint(values))
    data[data.find(values["conv.weight"].tobytes()) + 5] ^= 1
    with pytest.raises(UnsafeWeightsError, match="cut short or damaged"):
        read_checkpoint(put(bytes(data)))


def test_a_file_that_is_cut_short_is_refused(
    put: Callable[[bytes], Path], values: dict[str, np.ndarray]
) -> None:
    data = checkpoint(values)
    for length in (10, 500, len(data) // 2, len(data) - 30, len(data) - 1):
        with pytest.raises(UnsafeWeightsError, match="cut short or damaged") as caught:
            read_checkpoint(put(data[:length]))
        assert "again" in (caught.value.hint or "")


FOREIGN = {
    "empty": (b"", "is empty", None),
    "old format": (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"...", "before version 1.6", "torch.save"),
    "plain pickle": (pickle.dumps({"a": 1}), "is a plain pickle", "state_dict"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", "is a safetensors file", ".safetensors"),
    "web page": (b"\n<!DOCTYPE html><html><body>Not Found</body></html>", "is a web page", "download"),
    "web page in capitals": (b"<HTML><HEAD>", "is a web page", "download"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
    "text": (b"Not Found", "is not a PyTorch checkpoint", None),
    "one byte": (b"\x80", "", None),
    "noise": (bytes(range(256)), "is not a PyTorch checkpoint", None),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_files_are_called_what_they_are(case: str, put: Callable[[bytes], Path]) -> None:
    data, told, hint = FOREIGN[case]
    with pytest.raises(UnsafeWeightsError) as caught:
        read_checkpoint(put(data))
    assert told in caught.value.message
    assert (hint or "") in (caught.value.hint or "")
    assert "\n" not in caught.value.message


def test_what_torch_wrote_long_ago_or_otherwise_is_named(tmp_path: Path, save: Save) -> None:
    import torch

    with pytest.raises(UnsafeWeightsError, match=r"before version 1\.6"):
        read_checkpoint(save({"x": torch.ones(3)}, _use_new_zipfile_serialization=False))


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pt", tmp_path):
        with pytest.raises(WeightsMissingError):
            read_checkpoint(path)


def test_storages_are_read_one_after_the_other(put: Callable[[bytes], Path]) -> None:
    """Memory beyond the result: one storage, whatever the size of the file."""
    n, size = 16, 1 << 20
    path = put(checkpoint({f"x{i}": np.full(size // 4, i, np.float32) for i in range(n)}))
    tracemalloc.start()
    read = read_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(value.nbytes for value in read.values()) == n * size
    assert peak < (n + 3) * size
