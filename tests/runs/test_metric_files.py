"""The CSV files of metrics: cut back and repaired when a run resumes, and never somebody else's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint import read_state, write_state
from torchrl_glam.runs.metric_files import MetricFiles

LOSS, LATE = "scalars/policy/loss.csv", "scalars/policy/late.csv"


def log(files: MetricFiles, folder: Path, metric: str, rows: Iterable[str]) -> None:
    """Write rows as a run does."""
    files.claim([metric])
    path = folder / f"scalars/{metric}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"{row}\n" for row in rows)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a run that was killed after a checkpoint, ``state``, in the middle of a row."""
    folder, files = tmp_path / "metrics", MetricFiles(tmp_path / "metrics", "one")
    log(files, folder, "policy/loss", ["1,0.5"])
    files.state_dict()
    log(files, folder, "policy/loss", ["2,0.25"])
    write_state(tmp_path / "state", files.state_dict())
    log(files, folder, "policy/loss", ["3,0.1", "4,0."])
    log(files, folder, "policy/late", ["3,1.0"])
    return folder


def resume(folder: Path, run_id: str = "one") -> list[str]:
    return MetricFiles(folder, run_id).load_state_dict(read_state(folder.parent / "state"))


def test_rows_written_later_go_and_earlier_ones_stay(saved):
    assert resume(saved) == []
    assert (saved / LOSS).read_text() == "1,0.5\n2,0.25\n"
    assert not (saved / LATE).exists()


@pytest.mark.parametrize(
    ("damage", "how"),
    [
        (lambda path: path.write_text("1,0.5\n"), "was damaged"),
        (lambda path: path.write_text("1,0.5\n2,0.35\n3,0.1\n"), "was damaged"),
        (lambda path: path.write_text(""), "was damaged"),
        (Path.unlink, "was lost"),
    ],
    ids=["truncated", "flipped", "empty", "deleted"],
)
def test_a_damaged_file_is_named_and_written_again(saved, damage, how):
    damage(saved / LOSS)
    (line,) = resume(saved)
    assert line.startswith(f"metrics/{LOSS} {how}")
    assert (saved / LOSS).read_text() == "1,0.5\n2,0.25\n"
    assert resume(saved) == []


def test_a_run_that_starts_again_removes_its_own(saved):
    MetricFiles(saved, "one").load_state_dict({})
    assert list(saved.rglob("*.csv")) == []


def test_files_of_others_stay(saved):
    foreign = [saved / name for name in ("mydata.csv", "2024/survey.csv", "scalars/mine.csv", "scalars/policy/own.csv")]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    resume(saved)
    MetricFiles(saved, "one").load_state_dict({})
    assert all(path.read_text() == "mine" for path in foreign)
    assert (saved.parent / "state").exists()


def test_a_file_of_another_name_is_not_added_to(saved):
    (saved / "scalars/train.csv").write_text("mine")
    files = MetricFiles(saved, "one")
    files.load_state_dict(read_state(saved.parent / "state"))
    files.claim(["policy/loss"])
    with pytest.raises(UsageError, match=r"train\.csv is not a file of this run"):
        files.claim(["train"])


@pytest.mark.parametrize("name", ["scalars", "scalars/policy", LOSS, LATE])
def test_nothing_happens_through_a_link(saved, name):
    elsewhere = (saved / name).rename(saved.parent / "elsewhere")
    before = {path: path.read_bytes() for path in [elsewhere, *elsewhere.rglob("*")] if path.is_file()}
    (saved / name).symlink_to(elsewhere)
    with pytest.raises(UsageError, match="beyond a symbolic link"):
        resume(saved)
    assert {path: path.read_bytes() for path in [elsewhere, *elsewhere.rglob("*")] if path.is_file()} == before


def test_a_checkpoint_names_no_files_outside(saved):
    state = {"../outside.csv": next(iter(read_state(saved.parent / "state").values()))}
    with pytest.raises(UsageError, match="another folder"):
        MetricFiles(saved, "one").load_state_dict(state)


def test_lengths_of_an_earlier_version_serve(saved):
    files = MetricFiles(saved, "new")
    assert files.load_state_dict({LOSS: 6}) == []
    assert (saved / LOSS).read_text() == "1,0.5\n"
    files.claim(["policy/late"])
    assert (saved / f"{LATE}.aside").read_text() == "3,1.0\n"


def test_a_list_that_was_half_written_is_mended(saved):
    resume(saved)
    with (saved / ".one").open("a") as file:
        file.write("scalars/pol")
    files = MetricFiles(saved, "one")
    files.load_state_dict(read_state(saved.parent / "state"))
    log(files, saved, "policy/late", ["3,1.0"])
    resume(saved)
    assert not (saved / LATE).exists()
