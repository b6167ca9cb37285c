"""`dymn models variants`: the paper's figures and ours, with configs that can be trained."""

from __future__ import annotations

import json

from dymn_cli.cli.app import run
from dymn_cli.model.config import ModelConfig


def test_json_has_every_row_with_a_config_for_a_student(capfdbinary) -> None:
    assert run(["models", "variants", "-f", "json"]) == 0
    document = json.loads(capfdbinary.readouterr().out)
    assert document["schema"] == "dymn.variants/1"
    rows = {row["name"]: row for row in document["variants"]}
    triplet = rows["mn10-ta"]
    assert (triplet["table"], triplet["published_macs_m"], round(triplet["macs"] / 1e6)) == ("VIII", 577, 577)
    config = ModelConfig.from_json(json.dumps(triplet["config"]))
    assert config == ModelConfig("mn", static_attention="triplet")
    assert rows["dymn10"]["map"] == 47.7
    assert rows["mn10-grn"]["note"]
    (hts_at,) = [one for one in document["systems"] if one["name"] == "HTS-AT"]
    assert (hts_at["parameters_m"], hts_at["macs_m"], hts_at["map"]) == (31.0, None, 47.1)
    assert "2202.00874" in hts_at["source"]


def test_a_pipe_gets_rows_with_empty_cells_for_what_is_unknown(capfdbinary) -> None:
    assert run(["models", "variants", "--header"]) == 0
    head, *rows = capfdbinary.readouterr().out.decode().splitlines()
    assert head.split("\t")[:2] == ["name", "table"]
    cells = dict(
        zip(head.split("\t"), next(r for r in rows if r.startswith("mn10\t")).split("\t"), strict=True)
    )
    assert cells["map"] == ""
    assert round(int(cells["parameters"]) / 1e6, 2) == 4.88


def test_the_table_sets_ours_beside_the_papers(capfdbinary) -> None:
    assert run(["models", "variants", "-f", "table"]) == 0
    printed = capfdbinary.readouterr()
    line = next(one for one in printed.out.decode().splitlines() if "mn10-cbam" in one)
    assert line.split() == ["mn10-cbam", "VIII", "4.96", "M", "4.96", "548", "M", "548"]
    assert "mn10-grn: ours is 3.37 M" in printed.err.decode()
