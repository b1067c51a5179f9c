"""A printed command means the same to a shell and to Hydra as what it was made of."""

from __future__ import annotations

import random
import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from torchrl_glam.config.quoting import resume_command, write_override

FOLDERS = [
    "runs/pong",
    "a b",
    "a,b",
    "lr=1e-4",
    "1e-4",
    "007",
    "null",
    "true",
    "it's",
    'say "hello"',
    "run (1)",
    "[a]",
    "{a: b}",
    "größe",
    "走る",
    "a$b",
    "back\\slash",
    "end\\",
    "two\\\\",
    "'",
    "\\'",
    "a:b",
    "#1",
    "glob(*)",
    "~x",
    "+x",
    "a;b|c&d>e",
    " ",
]


def read(words: list[str]) -> str:
    """Return the folder that Hydra reads from a command."""
    override = OverridesParser.create().parse_override(words[-1])
    assert override.key_or_group == "run_dir"
    assert not override.is_sweep_override()
    return str(OmegaConf.create({"run_dir": override.value(), "seed": 1}).run_dir)


@pytest.mark.parametrize("folder", FOLDERS)
def test_any_folder_comes_back(folder):
    line = resume_command(
        "python 'my scripts/glam.py'", ["seed=1", "env.name='A b'", "run_dir=old", "resume=force"], folder
    )
    words = shlex.split(line)
    assert words[:-1] == ["python", "my scripts/glam.py", "seed=1", "env.name='A b'"]
    assert read(words) == folder


def test_a_shell_reads_all_of_them():
    lines = [resume_command("python glam.py", [], folder) for folder in FOLDERS]
    script = "\n".join(line.replace("python glam.py", "printf '%s\\n'", 1) for line in lines)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert [read([word]) for word in printed.splitlines()] == FOLDERS


def test_so_do_random_ones():
    chance = random.Random(0)
    for _ in range(150):
        folder = "".join(chance.choices("ab1.,=:'\"\\${}()[]~+ #é", k=chance.randint(1, 8))).replace("${", "$")
        assert read(shlex.split(resume_command("python glam.py", [], folder))) == folder, folder


def test_plain_names_are_left_plain():
    assert write_override("run_dir", "runs/ALE/Pong-v5-seed0") == "run_dir=runs/ALE/Pong-v5-seed0"
