"""Command lines of runs: whatever is given, they compose or end in one line."""

from __future__ import annotations

import random
import shlex
import sys

import pytest
from omegaconf import OmegaConf

from tests.support.paths import CONFIGS
from torchrl_glam.command.cli import command_line
from torchrl_glam.command.explain import LONGEST
from torchrl_glam.config import GROUPS, GLAMConfig
from torchrl_glam.config.flat import option_names


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """A function that runs a command line in this process, up to the run itself; returns the status and the line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")  # a study changes it
    monkeypatch.setattr(sys, "path", list(sys.path))
    came = []
    command = command_line(CONFIGS, "glam_atari")(came.append)

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["glam_atari.py", *arguments])
        came.clear()
        try:
            command()
            status = 0
        except SystemExit as exit_:
            status = exit_.code
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert status in (0, None) if not err else status == 2, (status, err)
        for line in err.splitlines():
            assert line.startswith("error: "), err
            assert len(line) <= LONGEST + len("error: ")
        return came[:], err

    return run_command


WRONG = {
    "preset=0": "preset=0: choose one of auto, cpu, debug, paper, released, small",
    "ablation=7": "ablation=7: choose one of double_mamba, ",
    "preset=../preset/cpu": "preset=../preset/cpu: choose one of auto, ",
    "preset=cpu.yaml": "preset=cpu.yaml: choose one of auto, ",
    "dynamics=[1,2]": "dynamics=[1,2]: choose one of double_mamba, ",
    "dynamics=null": "dynamics=null: choose one of ",
    "dynamics=": "dynamics= is empty: give one of double_mamba, ",
    "-m objective=ppo,3": "objective=ppo,3: choose one of a2c, discrete_sac, ",
    "~env=0": "~env=0 would delete env, and a run needs all of its options: leave it out",
    "~seed": "~seed would delete seed",
    "env=3": "env=3: env is a group of options: give those below it, env.NAME=...",
    "hydra=3": "hydra=3: hydra is a group of options",
    "run_dir=": "run_dir= is empty: give a value, or leave it out",
    """'run_dir=" "'""": 'run_dir=" " is empty: give a value, or leave it out',
    "--resolve": "the options cannot be read (ValueError: The --resolve flag can only be used in conjunction with",
    "--verbose": "unrecognized arguments: --verbose: options are written key=value; --help lists the flags",
    "--cfg everything": "argument --cfg/-c: invalid choice: 'everything'",
    "seed": "seed: options are written key=value",
    "=1": "=1: options are written key=value",
    "seed=é": "seed=é cannot be read (token recognition error at: 'é'): quote a value with special characters, seed=",
    "seed=[1": "seed=[1 cannot be read (",
    f"dynamics={'a' * 5000}": f"dynamics={'a' * 31}...{'a' * 39}: choose one of ",
    f"seed={'a' * 5000}": f"seed={'a' * 35}...",
    "+x=1": "there is no option x: the options there are seed, ",
    "agent_optimizer.eps=inf": "agent_optimizer.eps=inf: give a finite number of at least 0",
    "agent_optimizer.lr=1e999": "agent_optimizer.lr=inf: give a finite number of at least 0",
    "world_model.num_classes=1" + "0" * 23: "world_model.num_classes=1"
    + "0" * 23
    + ": give a whole number from 1 to 65536",
    "init_from=nowhere": "init_from=nowhere: there is no such folder; give the folder of a run or an export",
    "'run_dir=a\\${b}'": "run_dir=a${b} holds ${, which a run's options cannot: write the value without",
    "preset=debug --cfg job seed=1": "flags go before all options: --cfg job preset=debug seed=1",
    "+preset=debug": "+preset=debug would choose a second preset: write preset=debug, without the +",
    "+decoder=torch.nn.Linear": "+decoder=torch.nn.Linear would choose a second decoder: write decoder=torch",
    "--shell-completion install=bash": "--shell-completion is no flag of this command: --help lists the flags",
    "--config-path=..": "--config-path is no flag of this command: --help lists the flags",
    "agent.bootstrap=???": "agent.bootstrap=??? is no value: give one, or leave it out",
    "init_parts=glob(*)": "init_parts=[glob(*)]: glob is for env.name and for groups of options: give the values",
    "objective.kwargs=[[1]]": "objective.kwargs=[[1]]: give names and values, {NAME: VALUE}",
    "threads=99999999999": "threads=99999999999: give a whole number from 1 to 1024",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_ends_in_one_line_that_says_what_is_wrong(line, run):
    came, err = run(*shlex.split(line))
    assert not came
    (said,) = err.splitlines()
    assert said.startswith(f"error: {WRONG[line]}")


def make_line(seed):
    """Return random arguments: names there are and are not, with values of every kind."""
    draw = random.Random(seed)
    names = [*option_names(OmegaConf.structured(GLAMConfig)), *GROUPS, "preset", "ablation", "study", "env", "hydra"]
    odd = ["x", "env.x", "é", "", "a b", "-", "seed.x", "hydra.job.name", "hydra/launcher", "preset@x", "world_model"]
    texts = [
        "",
        " ",
        "null",
        "true",
        "???",
        "a",
        "é",
        "a,b",
        "'",
        '"',
        "''",
        "$x",
        "${seed}",
        "${x",
        "${now:}",
        "~",
        "..",
    ]
    numbers = ["0", "1", "-1", "7", "0.5", "inf", "nan", "1e23", "1e999", "9" * 30, "0x10", "1_0"]
    nested = [
        "[]",
        "[1,2]",
        "[[",
        "{}",
        "{a:1}",
        "[" * 60 + "]" * 60,
        "range(0,2)",
        "glob(*)",
        "choice(a)",
        "int(a)",
        "a=b",
        "a" * 5000,
    ]
    flags = ["--check", "--cfg", "--resolve", "--info", "--version", "-c job", "-m", "--x", "--package=a"]
    arguments = []
    for _ in range(draw.randint(1, 3)):
        if draw.random() < 0.15:
            arguments.append(draw.choice(flags))
            continue
        prefix = draw.choice(["", "", "", "", "+", "++", "~"])
        name, equals = draw.choice(names + 5 * odd), draw.choice(["="] * 9 + [""])
        arguments.append(f"{prefix}{name}{equals}{draw.choice(texts + numbers + nested)}")
    return arguments


def check_random(run, seeds):
    for seed in seeds:
        line = make_line(seed)
        try:
            run(*line)
        except BaseException as error:
            raise AssertionError(f"line {seed}: {shlex.join(line)}") from error


def test_random_command_lines(run):
    check_random(run, range(10))


@pytest.mark.slow
def test_300_random_command_lines(run):
    check_random(run, range(1000, 1300))
