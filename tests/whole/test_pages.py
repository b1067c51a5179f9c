"""Every block of code of README and docs runs, with smaller sizes, or a comment before it says why not."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import matplotlib
import pytest
from PIL import Image

from docs.making import results_table
from docs.making.options_table import render as render_options
from tests.support.pages import DOCS, PAGES, commands, python_blocks, read_blocks
from tests.support.paths import ROOT
from tests.support.saved import save_run
from tests.support.trained import GAME, SIZES, Trained
from torchrl_glam.__main__ import main
from torchrl_glam.config import load_preset
from torchrl_glam.config.flat import flatten_options, plain_options

README = ROOT / "README.md"
ELSEWHERE = {*(DOCS / "changes").glob("*.md"), DOCS / "without_hydra.md"}  # test_changes.py, test_without_hydra.py
OUTCOMES = {
    "README": [
        lambda names: names["loss"].world_model is not None,
        lambda names: names["imagined"].rollout(2, break_when_any_done=False).shape == (8, 2),
        lambda names: names["memory"].out_keys[0] == "embed",
    ],
    "parts": [
        lambda names: names["batch"]["next", "terminated"].shape == (2, 32, 1),
        lambda names: sorted(names["terms"].keys())[0] == "kl_dynamics",
        lambda names: names["rollout"]["next", "reward"].shape == (2, 16, 1),
        lambda names: names["outputs"]["belief"].shape == (2, 32, 256),
        lambda names: names["rollout"]["pixels"].shape[1:] == (64, 64, 3),
        lambda names: names["outputs"].shape == (2, 8, 64) and names["output"].shape == (2, 64),
    ],
    "observations": [lambda names: names["encoder"](names["torch"].zeros(2, 3))[0].shape == (2, 32, 32)],
    "runs": [lambda names: names["rollout"]["next", "reward"].shape == (8, 16, 1)],
    "offline": [lambda names: names["loss"].requires_grad and names["policy"].memory == "carried"],
}
COMMANDS = {page: commands(page) for page in PAGES if page not in ELSEWHERE}
ALONE = [words for page in COMMANDS.values() for words in page if not any("run_dir=" in word for word in words)]
SWAPS = [words for words in ALONE if words[:2] == ["glam", "train"] or words[0] == "python"]
SESSIONS = {page: [words for words in found if words not in SWAPS] for page, found in COMMANDS.items()}
SESSIONS = {page: found for page, found in SESSIONS.items() if found}
TINY = [GAME, "preset=debug", "total_frames=104", "training.log_every=2", "threads=1", "evaluation.episodes=1"]
SMALLER = {
    "train": [*TINY, *SIZES],
    "estimate": [*TINY, *SIZES],
    "evaluate": ["episodes=1", "trust=true"],
    "imagine": ["trust=true", "steps=4"],
    "diagnose": ["trust=true", "fresh=60"],
    "export": ["trust=true"],
    "report": [],
    "offline dataset": [
        "medium=0.05",
        "total_frames=2048",
        "snapshots=4",
        "reference_episodes=2",
        "evaluation_episodes=2",
    ],
    "offline train": ["preset=debug"],
    "offline evaluate": [],
    "offline memory": [],
}


def name(page: Path) -> str:
    return page.stem


def test_a_block_runs_or_says_why_not():
    for page in PAGES:
        for block in read_blocks(page):
            assert block.runs or block.comment.startswith(("not run: ", "lines of ")), f"{page}: {block.comment}"
        if page not in ELSEWHERE:
            assert len(python_blocks(page)) == len(OUTCOMES.get(page.stem, ())), page


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem in OUTCOMES], ids=name)
def test_the_python_of_a_page_runs_in_its_order_in_one_session(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    save_run(tmp_path / "exported/pong", "env.name=ALE/Pong-v5")  # as the command before it does
    names: dict[str, object] = {}
    for block, outcome in zip(python_blocks(page), OUTCOMES[page.stem], strict=True):
        assert sum(not line.startswith(("from", "import")) for line in block.splitlines() if line) <= 5
        exec(block, names)
        assert outcome(names), block


def test_lines_that_are_shown_are_in_the_file():
    shown = 0
    for page in PAGES:
        for block in read_blocks(page):
            if block.comment.startswith("lines of "):
                lines = [
                    line.strip() for line in (ROOT / block.comment.removeprefix("lines of ")).read_text().splitlines()
                ]
                wanted = [line.strip() for line in dedent(block.text).splitlines()]
                assert any(lines[start : start + len(wanted)] == wanted for start in range(len(lines))), block.text
                shown += 1
    assert shown >= 8


@pytest.mark.parametrize("words", SWAPS, ids=" ".join)
def test_a_swap_on_the_command_line_trains(words):
    """With tiny networks, and on the environment it names."""
    script, options = (None, words[2:]) if words[0] == "glam" else (words[1], words[2:])
    assert script is None or (ROOT / script).exists()
    if script and script.endswith("own_env.py"):
        options = [*options, "env.name=CartPole-v1", "env.observation=pixels"]
    if any(option.startswith("world_model.channels=") for option in options):
        options = [option for option in options if not option.startswith("world_model.channels=")]
        options.append("world_model.channels=[4,4,4]")
    metrics = Trained(*options, sizes=SIZES).update()
    assert all(value.isfinite().all() for value in metrics.values())


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """A function that runs a command in this process, with smaller sizes."""

    def run(words: list[str]) -> None:
        command = " ".join(words[1 : 2 + (words[1] == "offline")])
        given = words[1 + len(command.split()) :]
        smaller = [option.partition("=")[0] for option in SMALLER[command]]
        given = [option for option in given if option.partition("=")[0] not in smaller]
        monkeypatch.setattr(sys, "argv", ["glam", *command.split(), *given, *SMALLER[command]])
        main()

    return run


@pytest.mark.long
@pytest.mark.parametrize("page", SESSIONS, ids=name)
def test_the_commands_of_a_page_run_in_their_order(page, call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    if page.stem == "looking_inside":
        (tmp_path / "runs").mkdir()
        save_run(tmp_path / "runs/pong")
    if page.stem == "studies":
        shutil.copytree(ROOT / "results/cpu/Krull", tmp_path / "results/Krull")
    for words in SESSIONS[page]:
        call(words)
        capsys.readouterr()


@pytest.mark.long
@pytest.mark.parametrize("path", sorted((DOCS / "tutorials").glob("*.py")), ids=name)
def test_a_tutorial_runs_and_shows_what_it_says(path, capsys, monkeypatch):
    matplotlib.use("agg")
    names = runpy.run_path(str(path))
    printed = capsys.readouterr().out
    if path.stem == "own_data":
        assert names["terms"]["loss_reconstruction"] < 5
        assert abs(names["expected"] - names["came"]) < 0.1
        assert (names["frames"][:, 0] - names["pixels"][:4, 8] / 255).abs().mean() < 0.1
    elif path.stem == "ppo_in_imagination":
        assert names["reward"] > 0.85
        assert "of random play 0." in printed
    else:
        for target, value in zip(names["targets"], names["achieved"], strict=True):
            assert abs(target - value) < 2


def test_the_readme_has_the_two_commands_and_one_page():
    text = README.read_text()
    assert "pip install -e . && python examples/glam_atari.py env.name=ALE/Pong-v5\n" in text
    assert 'pip install -e ".[dev]" && pytest -n auto\n' in text
    assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("page", results_table.TABLES, ids=name)
def test_a_table_of_results_is_that_of_the_files(page):
    (shown,) = results_table.PLACE.findall(page.read_text())
    assert shown == results_table.TABLES[page]()


def test_a_row_of_the_table_is_that_of_a_run():
    shown = README.read_text()
    assert "| Krull | `cpu`, 20,000 | 2,374; 2,680 | 1,558 | 2,666 | 12,649 | 36 min, 1 CPU core |" in shown


def test_the_moving_picture_is_small():
    path = DOCS / "figures" / "imagination.gif"
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as picture:
        assert picture.n_frames > 10


def test_every_option_has_a_row():
    table = render_options()
    wanted = [name for name in flatten_options(plain_options(load_preset("paper"))) if "._" not in name]
    assert [name for name in wanted if f"| `{name}` |" not in table] == []
    assert "| `total_frames` | `100000` | environment steps: 400 k emulator frames on the ALE |" in table
    assert "| `world_model.dynamics.window` | `4` | tokens in LMamba's window. |" in table
