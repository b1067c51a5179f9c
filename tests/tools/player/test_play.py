"""The example as its user meets it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.support.paths import EXAMPLES, ROOT

EXAMPLE = EXAMPLES / "play.py"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_and_ends_cleanly(run_folder, ending):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLE), f"run_dir={run_folder}", "port=0", "trust=true"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        try:
            line = process.stdout.readline()
            address = re.fullmatch(
                r"play tests.support.games:CatchBall-v0 at (http://127.0.0.1:\d+/\?token=\S+) \(Ctrl-C ends\)\n", line
            )
            with urllib.request.urlopen(address[1], timeout=60) as page:
                assert b"<canvas" in page.read()
            process.send_signal(ending)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


BAD_INPUTS = {
    "no run_dir": ([], ["run_dir=..."]),
    "no run": (["run_dir={empty}"], ["holds no run", "config.yaml"]),
    "misspelt option": (["run_dir={run}", "prot=80"], ["prot", "did you mean port"]),
    "no port": (["run_dir={run}", "port=65536"], ["port=65536", "from 1 to 65535"]),
    "port that is taken": (["run_dir={run}", "port={taken}"], ["is taken", "port=0"]),
    "no number": (["run_dir={run}", "port=eighty"], ["port=eighty"]),
    "unknown weights": (["run_dir={run}", "weights=oldest"], ["weights=oldest", "newest or best"]),
    "unknown device": (["run_dir={run}", "device=abacus"], ["device=abacus"]),
    "negative seed": (["run_dir={run}", "seed=-1"], ["seed=-1", "at least 0"]),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_ends_in_one_clear_line(name, run_folder, tmp_path, refuse):
    options, wanted = BAD_INPUTS[name]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"run": run_folder, "empty": tmp_path, "taken": taken.getsockname()[1]}
        line = refuse(EXAMPLE, "trust=true", *(option.format(**places) for option in options))
    for part in wanted:
        assert part in line
