"""Published data sets are read as their archives unpack, with their official folds and splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.datasets.dataset import Dataset
from dymn_cli.datasets.folds import plan_of
from dymn_cli.datasets.published import read_layout
from dymn_cli.errors import InputError, UsageError


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def places(data: Dataset) -> dict[str, tuple[str, ...]]:
    return {Path(e.source).name: (e.fold or e.split, *e.labels) for e in data.examples}


@pytest.fixture
def esc50(tmp_path: Path) -> Path:
    root = tmp_path / "unpacked/ESC-50-master"
    dog, other = ("1-100-A-0.wav", 1, "dog", 100), ("1-100-B-0.wav", 1, "dog", 100)
    rows = [dog, other, ("2-7-A-36.wav", 2, "vacuum", 7), ("2-9-A-0.wav", 2, "dog", 9)]
    lines = [f"{name},{fold},0,{label},False,{source},A" for name, fold, label, source in rows]
    put(root / "meta/esc50.csv", "\n".join(["filename,fold,target,category,esc10,src_file,take", *lines, ""]))
    for name, *_ in rows:
        put(root / "audio" / name)
    return root


def test_esc50_has_folds(esc50: Path) -> None:
    data = read_layout("esc50", esc50)
    assert places(data) == {
        "1-100-A-0.wav": ("1", "dog"), "1-100-B-0.wav": ("1", "dog"), "2-7-A-36.wav": ("2", "vacuum"),
        "2-9-A-0.wav": ("2", "dog"),
    }  # fmt: skip
    assert (data.is_multilabel, data.classes) == (False, ("dog", "vacuum"))
    assert plan_of(data).words == "the 2 folds of the data"
    assert len(read_layout("esc50", esc50.parent).examples) == 4  # the folder that it was unpacked into


def test_fsd50k_has_three_parts_and_a_vocabulary(tmp_path: Path) -> None:
    truth = tmp_path / "FSD50K.ground_truth"
    put(
        truth / "dev.csv",
        'fname,labels,mids,split\n64760,"Electric_guitar,Music","/m/02sgy,/m/04rlf",train\n'
        '21914,"Crushing","/m/07plct2",val\n',
    )
    put(truth / "eval.csv", 'fname,labels,mids\n37199,"Music","/m/04rlf"\n')
    put(truth / "vocabulary.csv", "0,Music,/m/04rlf\n1,Crushing,/m/07plct2\n2,Electric_guitar,/m/02sgy\n")
    for name in ("FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/21914.wav", "FSD50K.eval_audio/37199.wav"):
        put(tmp_path / name)
    data = read_layout("fsd50k", tmp_path)
    assert data.classes == ("Music", "Crushing", "Electric_guitar")
    assert data.mids == ("/m/04rlf", "/m/07plct2", "/m/02sgy")
    assert data.is_multilabel
    assert places(data) == {
        "64760.wav": ("train", "Music", "Electric_guitar"),
        "21914.wav": ("val", "Crushing"),
        "37199.wav": ("test", "Music"),
    }
    plan = plan_of(data)
    assert plan.words == "its own split: 2 to learn from, 1 held out"
    assert list(plan.validation) == [False, True, False]


OPENMIC = "sample_key,instrument,relevance,num_responses\n"


def openmic(root: Path) -> Path:
    put(root / "class-map.json", json.dumps({"banjo": 1, "accordion": 0, "flute": 2}))
    put(root / "partitions/split01_train.csv", "000046_3840\n")
    put(root / "partitions/split01_test.csv", "000135_483840\n")
    for key in ("000046_3840", "000135_483840", "000178_3840"):
        put(root / "audio" / key[:3] / f"{key}.ogg")
    return root


def test_openmic_is_partly_labelled(tmp_path: Path) -> None:
    root = openmic(tmp_path / "openmic-2018")
    pairs = (
        "000046_3840,flute,0.9",
        "000046_3840,banjo,0.1",
        "000135_483840,banjo,1.0",
        "000178_3840,flute,1",
    )
    lines = "".join(f"{pair},3\n" for pair in pairs)
    put(root / "openmic-2018-aggregated-labels.csv", OPENMIC + lines)
    data = read_layout("openmic", tmp_path)
    assert data.classes == ("accordion", "banjo", "flute")
    assert places(data) == {"000046_3840.ogg": ("train", "flute"), "000135_483840.ogg": ("test", "banjo")}
    np.testing.assert_array_equal(data.known(), [[False, True, True], [False, True, False]])
    assert "clips in no part, which are left out: 1" in data.notes
    assert 'no recording of "accordion"' in data.notes


def test_openmic_without_its_table_from_its_arrays(tmp_path: Path) -> None:
    root = openmic(tmp_path)
    relevance = np.array([[0.5, 0.1, 0.9], [0.5, 1.0, 0.5]])
    keys = np.array(["000046_3840", "000135_483840"])
    np.savez(root / "openmic-2018.npz", Y_true=relevance, Y_mask=relevance != 0.5, sample_key=keys)
    data = read_layout("openmic", root)
    assert places(data) == {"000046_3840.ogg": ("train", "flute"), "000135_483840.ogg": ("test", "banjo")}
    np.testing.assert_array_equal(data.known(), [[False, True, True], [False, True, False]])


def test_nothing_in_an_archive_is_executed(tmp_path: Path) -> None:
    root = openmic(tmp_path)
    keys = np.array(["000046_3840", "000135_483840"], dtype=object)  # saved as a pickle
    table = np.zeros((2, 3))
    np.savez(root / "openmic-2018.npz", Y_true=table, Y_mask=table == 0, sample_key=keys)
    with pytest.raises(InputError, match="cannot be read without running code from it") as caught:
        read_layout("openmic", root)
    assert caught.value.hint is not None
    assert "openmic-2018-aggregated-labels.csv" in caught.value.hint


def test_openmic_with_nan_is_refused(tmp_path: Path) -> None:
    root = openmic(tmp_path)
    table = np.full((2, 3), np.nan)
    keys = np.array(["000046_3840", "000135_483840"])
    np.savez(root / "openmic-2018.npz", Y_true=table, Y_mask=table != 0, sample_key=keys)
    with pytest.raises(InputError, match="Y_true holds NaN"):
        read_layout("openmic", root)


def tau(root: Path) -> Path:
    numbers = [(scene, place, n) for scene in ("bus", "park") for place in (1, 2) for n in (0, 1)]
    names = [f"audio/{scene}-lisbon-{place}-{place}{n}-a.wav" for scene, place, n in numbers]
    rows = [f"{name}\t{name[6:].split('-')[0]}\tlisbon-{name.split('-')[2]}\ta" for name in names]
    put(root / "meta.csv", "\n".join(["filename\tscene_label\tidentifier\tsource_label", *rows, ""]))
    for list_name, place in (("train", 1), ("evaluate", 2)):
        part = [f"{name}\t{name[6:].split('-')[0]}" for name in names if f"lisbon-{place}" in name]
        lines = "\n".join(["filename\tscene_label", *part[:3], ""])
        put(root / f"evaluation_setup/fold1_{list_name}.csv", lines)
    put(root / "evaluation_setup/fold1_test.csv", "filename\n")
    for name in names:
        put(root / name)
    return root


def test_tau_uses_the_segments_of_its_lists_with_their_places(tmp_path: Path) -> None:
    data = read_layout("tau", tau(tmp_path / "TAU-urban-acoustic-scenes-2020-mobile-development"))
    assert data.classes == ("bus", "park")
    assert sorted(e.split for e in data.examples) == ["test"] * 3 + ["train"] * 3
    assert {e.group for e in data.examples} == {"lisbon-1", "lisbon-2"}
    assert "2 segments are in neither list of the official split and are left out" in data.notes
    assert not data.is_multilabel


@pytest.mark.parametrize("name", ["esc50", "fsd50k", "openmic", "tau"])
def test_a_folder_that_is_none_of_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="in this folder"):
        read_layout(name, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_layout(name, tmp_path / "nowhere")


def test_parts_that_are_missing_are_named(tmp_path: Path, esc50: Path) -> None:
    with pytest.raises(UsageError, match="no data set 'esc'"):
        read_layout("esc", esc50)
    root = tau(tmp_path / "tau")
    (root / "meta.csv").unlink()
    with pytest.raises(InputError, match=r"meta\.csv is missing"):
        read_layout("tau", root)
    root = openmic(tmp_path / "mic")
    with pytest.raises(InputError, match="neither openmic-2018-aggregated-labels"):
        read_layout("openmic", root)
    put(root / "openmic-2018-aggregated-labels.csv", OPENMIC + "000046_3840,flute,0.9,3\n")
    (root / "partitions/split01_test.csv").unlink()
    with pytest.raises(InputError, match="the official split cannot be read"):
        read_layout("openmic", root)
