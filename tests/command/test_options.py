"""The command line of the small tools: what is given comes through, what is wrong ends in one line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum

import pytest
from hydra import compose, initialize_config_dir

from tests.support.paths import CONFIGS
from torchrl_glam.command.options import read_arguments, small_command
from torchrl_glam.errors import UsageError


class Colour(Enum):
    red = "red"
    green = "green"


@dataclass
class Common:
    folder: str  # where it lies


@dataclass
class Options(Common):
    colour: Colour = Colour.red  # of the paint
    episodes: int | None = None  # null: as many as there are
    share: float = 0.5
    greedy: bool = False
    out: str | None = None
    model: str = "mamba"  # also the name of a group of configs


def make_command(main):
    return small_command(Options)(main)


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs ``main`` with arguments; returns the exit status, stdout and stderr."""

    def run_command(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["tool.py", *arguments])
        status = 0
        try:
            make_command(main)()
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return run_command


def test_what_is_given_replaces_the_defaults(run):
    came = []
    arguments = ["folder=runs/a", "colour=green", "episodes=3", "share=1e-2", "greedy=true", "episodes=4", "model=dt"]
    assert run(came.append, *arguments) == (0, "", "")
    assert came == [Options("runs/a", Colour.green, 4, 0.01, True, model="dt")]
    assert read_arguments(Options, ["folder=b"]) == Options("b")
    assert read_arguments(Options, ["folder=b", "episodes=null", "out=null"]) == Options("b")


TEXTS = ["007", "1e5", "true", "[a]", "{b}", "a=b", "2024-01-01", " a", "a: b", "~/x", "a,b", "$HOME", "a\n"]
QUOTES = ["it's", '"a"', "'a'", "a\\'b", "a\\"]


@pytest.mark.parametrize("text", [*TEXTS, *QUOTES])
def test_text_stays_as_it_is(text):
    assert read_arguments(Options, [f"folder={text}"]).folder == text


WRONG = {
    "misspelt": (["folder=a", "episods=3"], "there is no option episods: did you mean episodes?"),
    "unlike any": (["folder=a", "xyzzy=3"], "there is no option xyzzy: --help lists them"),
    "missing": (["episodes=3"], "give folder=...; --help lists the options"),
    "no number": (["folder=a", "episodes=x"], "episodes=x: Value 'x' of type 'str' could not be converted to Integer"),
    "a broken number": (["folder=a", "episodes=1.5"], "episodes=1.5: Value '1.5' of type 'str' could not be"),
    "no bool": (["folder=a", "greedy=perhaps"], "greedy=perhaps: Value 'perhaps' is not a valid bool"),
    "no choice": (["folder=a", "colour=blue"], "colour=blue: Invalid value 'blue', expected one of [red, green]"),
    "null where it cannot be": (["folder=null"], "folder=null: field 'folder' is not Optional"),
    "no value": (["folder"], "folder: options are written key=value; --help lists them"),
    "empty": (["folder="], "folder= is empty: give a value, or leave it out"),
    "blank": (["folder=a", "out= "], "out= is empty: give a value, or leave it out"),
    "of another style": (["--folder=a"], "--folder=a: options are written key=value; --help lists them"),
    "Hydra's own": (["folder=a", "hydra.run.dir=b"], "there is no option hydra.run.dir"),
    "added": (["folder=a", "+more=b"], "there is no option +more"),
    "nested": (["folder=a", "env.name=b"], "there is no option env.name"),
    "a name to fill in": (["folder=${nothing}"], "folder=${nothing} holds ${, and nothing is filled in here: write"),
    "an environment variable": (["folder=a/${oc.env:HOME}"], "folder=a/${oc.env:HOME} holds ${, and nothing is"),
    "question marks": (["folder=???"], "give folder=...; --help lists the options"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_ends_in_one_line(run, name):
    arguments, wanted = WRONG[name]
    status, out, err = run(pytest.fail, *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"error: {wanted}")


@pytest.mark.parametrize(
    ("error", "status", "wanted"),
    [
        (UsageError("not so"), 2, "error: not so\n"),
        (FloatingPointError("not finite: loss"), 1, "error: not finite: loss\n"),
    ],
)
def test_an_expected_error_is_one_line(run, error, status, wanted):
    def main(options):
        raise error

    assert run(main, "folder=a") == (status, "", wanted)


def test_ctrl_c_and_bugs(run):
    def interrupted(options):
        raise KeyboardInterrupt

    def wrong(options):
        raise KeyError("a bug keeps its traceback")

    assert run(interrupted, "folder=a")[0] == "interrupted"
    with pytest.raises(KeyError):
        run(wrong, "folder=a")


def test_hydra_leaves_nothing_behind(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(print, "folder=a")[0] == 0
    assert list(tmp_path.iterdir()) == []
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        assert compose("glam_atari", ["preset=debug"]).preset == "debug"


def test_help_lists_every_option_with_its_comment(run):
    def main(options):
        """Paint a folder.

        In one colour.
        """

    status, out, err = run(main, "folder=a", "--help")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "Paint a folder.",
        "",
        "In one colour.",
        "",
        "tool.py key=value ...",
        "  folder=... (wanted)     where it lies",
        "  colour=red (red|green)  of the paint",
        "  episodes=null           null: as many as there are",
        "  share=0.5",
        "  greedy=false",
        "  out=null",
        "  model=mamba             also the name of a group of configs",
    ]
