from __future__ import annotations

import json
from pathlib import Path

from dymn_cli.train.run_log import RunLog


def steps(path: Path) -> list[tuple[int, int]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["stage"], line["step"]) for line in lines]


def test_a_resumed_run_writes_what_an_uninterrupted_one_would_have(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        for step in range(1, 6):
            log.write({"stage": 0, "step": step})
    with path.open("a") as file:
        file.write('{"schema": "half a li')
    with RunLog(path, stage=0, step=3) as log:
        log.write({"stage": 0, "step": 4})
        log.write({"stage": 1, "step": 1})
    assert steps(path) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]
    with RunLog(path, stage=1, step=0) as log:
        log.write({"stage": 1, "step": 1})
    assert steps(path)[-2:] == [(0, 4), (1, 1)]


def test_a_new_run_begins_with_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.write({"stage": 0, "step": 1})
    with RunLog(path):
        pass
    assert path.read_text() == ""
