"""Tables of runs beside the published scores."""

from __future__ import annotations

from tests.support.made_runs import write_run
from torchrl_glam.presentation import frame_markdown
from torchrl_glam.tools.report.methods import tabulate_runs
from torchrl_glam.tools.report.references import References, load_references
from torchrl_glam.tools.report.runs import read_runs
from torchrl_glam.tools.report.tables import ablation_table, differences, published_table

SCALE = load_references(References.table1)


def runs_in(folder):
    return tabulate_runs(read_runs([folder]).runs, SCALE)[0]


def test_our_scores_stand_beside_the_published_ones_of_the_same_games(tmp_path):
    for seed, score in enumerate((10.0, 14.0)):
        write_run(tmp_path, "Pong", seed, [score], total_frames=20_000, protocol="standard")
    write_run(tmp_path, "CartPole-v1", 0, [100.0], total_frames=20_000, protocol="standard")
    runs = runs_in(tmp_path)
    _, _, row = frame_markdown(published_table(runs)).splitlines()
    assert row == "| Pong | -21 | 15 | 13 | 19 | 15 | 18 | 5 | 11 | 18 | 12.0 |"
    assert differences(runs) == [
        "paper cannot be compared directly: 20,000 steps, not 100,000; protocol `standard`, not GLAM's `glam`."
    ]


def test_what_is_run_as_the_paper_did_is_comparable(tmp_path):
    write_run(tmp_path, "CartPole-v1", 0, [100.0])
    assert differences(runs_in(tmp_path)) == []
    assert published_table(runs_in(tmp_path)).empty


def test_ablations_stand_beside_table_2(tmp_path):
    write_run(tmp_path, "Pong", 0, [17.0])
    write_run(tmp_path, "Pong", 0, [16.0], objective="ppo", config_hash="a")
    assert ablation_table(runs_in(tmp_path)) is None
    write_run(tmp_path, "Boxing", 0, [50.0], ablation="without_g_and_l", dynamics="storm", config_hash="b")
    rows = frame_markdown(ablation_table(runs_in(tmp_path))).splitlines()[2:]
    assert "| `ablation=without_g_and_l` | published | 8 | 63 | 26,984 | 8,320 |" in rows
    place = rows.index("| `ablation=without_g_and_l` | published | 8 | 63 | 26,984 | 8,320 |")
    assert rows[place + 1] == "|  | ours: paper, ablation without_g_and_l | - | 50.0 | - | - |"
    assert rows[-2:] == [
        "| `ablation=none` | published | 18 | 76 | 32,680 | 13,190 |",
        "|  | ours: paper | 17.0 | - | - | - |",
    ]
