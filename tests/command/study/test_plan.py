"""Which runs a study has, and that each keeps a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from tests.support.paths import CONFIGS
from torchrl_glam.command.arguments import expand_arguments, expand_games, study_arguments
from torchrl_glam.command.study.plan import PlannedRun, plan_runs
from torchrl_glam.config import GLAMConfig
from torchrl_glam.config.quoting import quote_override
from torchrl_glam.envs.scores import atari_100k_games
from torchrl_glam.errors import UsageError


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, list[PlannedRun]]]:
    """A function that plans the study of a command line."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)

    def make_plan(*arguments: str) -> tuple[str, list[PlannedRun]]:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            given = [*expand_arguments(list(arguments)), "hydra.mode=MULTIRUN"]
            study = hydra.compose_config("glam_atari", given, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
            return plan_runs(study, hydra.config_loader, GLAMConfig)

    return make_plan


GLOBS = {
    "glob(B*)": "BankHeist BattleZone Boxing Breakout",
    "glob(ALE/B*-v5,exclude=Boxing)": "BankHeist BattleZone Breakout",
    "glob([B*,Pong],exclude=[ALE/Ba*,Bo*])": "Breakout Pong",
    "glob(?ong)": "Pong",
}


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_stands_for_games(glob):
    (option,) = expand_games([f"env.name={glob}"])
    assert option == "env.name=" + ",".join(f"ALE/{game}-v5" for game in GLOBS[glob].split())


def test_a_glob_of_all_is_the_benchmark_and_other_options_stay():
    left, games = expand_games(["seed=range(0,5)", "env.name=glob(*)"])
    assert left == "seed=range(0,5)"
    assert games.count("ALE/") == len(atari_100k_games()) == 26


@pytest.mark.parametrize(
    ("glob", "advice"),
    [
        ("glob(Bxing*)", "did you mean Boxing"),
        ("glob(Pong,exclude=Pong)", "did you mean Pong"),
        ("glob(Zzz*)", "Alien,"),
    ],
)
def test_a_glob_of_nothing_says_what_is_near(glob, advice):
    with pytest.raises(UsageError, match="matches none of the 26 games") as refusal:
        expand_games([f"env.name={glob}"])
    assert advice in str(refusal.value)


def test_only_a_sweep_is_a_study():
    assert study_arguments(["seed=0"]) is None
    assert study_arguments(["-m", "--help"]) is None
    assert study_arguments(["seed=0", "--multirun"]) == study_arguments(["hydra.mode=MULTIRUN", "seed=0"]) == ["seed=0"]
    with pytest.raises(UsageError, match="--config-dir=mine does not go with -m"):
        study_arguments(["-m", "--config-dir=mine"])


def test_a_folder_tells_game_options_and_seed(plan):
    top, runs = plan("env.name=glob([Boxing,Pong])", "seed=range(0,2)")
    assert top == "runs/study"
    labels = [f"ALE/{game}-v5/seed{seed}" for game in ("Boxing", "Pong") for seed in (0, 1)]
    assert [run.label for run in runs] == labels
    assert [run.options.run_dir for run in runs] == [f"runs/study/{label}" for label in labels]
    assert runs[1].overrides == ["run_dir='runs/study/ALE/Boxing-v5/seed1'", "env.name=ALE/Boxing-v5", "seed=1"]
    (run,) = plan("hydra.sweep.dir=mine")[1]
    assert run.options.run_dir == "mine/ALE/Pong-v5/seed0"


def test_the_order_of_options_and_what_is_harmless_change_no_folder(plan):
    told = ["preset=debug", "objective=ppo", "env.num_envs=2"]
    (label,) = [run.label for run in plan(*told)[1]]
    assert label == "ALE/Pong-v5/env.num_envs-2+objective-ppo+preset-debug-seed0"
    harmless = ["study=none", "threads=2", "total_frames=400", "logger=tensorboard", "evaluation.episodes=2"]
    assert [run.label for run in plan(*harmless, *reversed(told))[1]] == [label]


def test_what_is_swept_over_is_told_however_harmless(plan):
    labels = [run.label for run in plan("total_frames=2000,3000", "preset=debug")[1]]
    assert labels == [f"ALE/Pong-v5/preset-debug+total_frames-{frames}-seed0" for frames in (2000, 3000)]


STRANGE = ["[8,8,16,16]", "[8,8,16,32]", "[8, 8, 16, 16, 8]"]


def test_runs_that_differ_share_no_folder_and_hydra_reads_each_as_it_is(plan):
    strange = "world_model.channels=" + ",".join(STRANGE)
    tiny = "agent_optimizer.lr=1e-4,1e-5"
    long = "+objective.kwargs.note=" + ",".join(letter * 200 for letter in "ab")
    _, runs = plan(strange, tiny, long)
    labels = {run.label for run in runs}
    assert len(labels) == len(runs) == 12
    for label in labels:
        assert len(Path(label).name) < 160
        assert OverridesParser.create().parse_override(f"run_dir={label}").value() == label


def test_the_same_run_is_run_once(plan):
    assert len(plan("seed=0,1,0")[1]) == 2


def test_a_run_dir_that_is_given_must_tell_the_runs_apart(plan):
    top, runs = plan("seed=0,1", "run_dir=mine/${env.name}-${hydra:runtime.choices.preset}/${seed}", "preset=debug")
    assert top == "mine/ALE/Pong-v5-debug"
    assert [run.label for run in runs] == ["0", "1"]
    assert quote_override("run_dir", "mine/ALE/Pong-v5-debug/1") in runs[1].overrides
    with pytest.raises(UsageError, match=r"run_dir=mine is that of several runs: .*\$\{seed\}"):
        plan("seed=0,1", "run_dir=mine")


def test_a_run_whose_options_are_wrong_leaves_the_others(plan):
    good, bad, none = plan("objective=ppo,pppo,glam")[1]
    assert (good.error, none.error) == (None, None)
    assert "pppo" in str(bad.error)
    assert bad.label == "ALE/Pong-v5/objective-pppo-seed0"


def test_a_study_can_be_a_file(plan, tmp_path):
    (tmp_path / "study").mkdir()
    lines = [
        "# @package _global_",
        "hydra:",
        "  sweeper:",
        "    params:",
        "      seed: 0,1",
        "      env.name: glob(Po*)",
    ]
    (tmp_path / "study" / "mine.yaml").write_text("\n".join(lines))
    _, runs = plan(f"hydra.searchpath=[file://{tmp_path}]", "study=mine")
    assert [run.label for run in runs] == ["ALE/Pong-v5/seed0", "ALE/Pong-v5/seed1"]
