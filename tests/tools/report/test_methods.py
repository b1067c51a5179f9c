"""Only runs that differ in nothing but seed and game are one method."""

from __future__ import annotations

import pytest

from tests.support.made_runs import OLD, RESULT, write_run
from torchrl_glam.errors import UsageError
from torchrl_glam.tools.report.methods import tabulate_runs
from torchrl_glam.tools.report.references import References, load_references
from torchrl_glam.tools.report.runs import read_runs


def tabulate(folder):
    return tabulate_runs(read_runs([folder]).runs, load_references(References.table1))


def labels(folder):
    return tabulate(folder)[0]["method"].value_counts().to_dict()


def test_a_seed_counts_once(tmp_path):
    first = write_run(tmp_path, "Pong", 0, [1.0, 2.0])
    copy = write_run(tmp_path, "Pong", 0, [1.0, 2.0])
    runs, (line,) = tabulate(tmp_path)
    assert len(runs) == 1
    assert line in {f"{one} is left out: a copy of {other}" for one, other in [(first, copy), (copy, first)]}
    write_run(tmp_path, "Pong", 0, [1.0, 3.0])
    with pytest.raises(
        UsageError, match=r"^ALE/Pong-v5 seed 0 of paper has two different results, \S+ and \S+: give only one$"
    ):
        tabulate(tmp_path)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"config_hash": "f" * 12}, ["paper, options 0123456789ab", "paper, options ffffffffffff"]),
        ({"config_hash": None}, ["paper, options 0123456789ab", "paper, options unknown"]),
        ({"total_frames": 20_000}, ["paper, 20,000 steps", "paper, 100,000 steps"]),
        ({"protocol": "standard"}, ["paper, protocol glam", "paper, protocol standard"]),
        ({"greedy": True}, ["paper, greedy", "paper, sampled"]),
        ({"objective": "ppo", "config_hash": "f" * 12}, ["paper", "paper, objective ppo"]),
        (
            {"ablation": "without_g", "dynamics": "lmamba_only", "config_hash": "f"},
            ["paper", "paper, ablation without_g"],
        ),
        ({"dynamics": "storm", "config_hash": "f" * 12}, ["paper", "paper, dynamics storm"]),
        ({"preset": "cpu", "config_hash": "f" * 12}, ["cpu", "paper"]),
    ],
)
def test_unlike_runs_are_different_methods_named_by_what_differs(tmp_path, changes, wanted):
    for game in ("Pong", "Boxing"):
        for seed in range(2):
            write_run(tmp_path, game, seed, [1.0])
            write_run(tmp_path, game, seed, [2.0], **changes)
    assert labels(tmp_path) == dict.fromkeys(wanted, 4)


def test_old_runs_are_told_apart_by_what_was_swapped(tmp_path):
    for objective in ("glam", "ppo"):
        write_run(tmp_path, "Pong", 0, [1.0], **{**OLD, "objective": objective})
    assert labels(tmp_path) == {RESULT["preset"]: 1, f"{RESULT['preset']}, objective ppo": 1}
