"""Damaged, foreign and hostile files: one line names them, the checkpoint before is used, nothing is run or lost."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchrl.checkpoint import Checkpoint, StateDictCheckpointAdapter

from tests.support.killed_runs import Finished, checkpoints, differences, outcome
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.runs.checkpoint import read_records, read_state, read_weights, write_state
from torchrl_glam.runs.files import write_sums
from torchrl_glam.runs.loading import load_run
from torchrl_glam.runs.metric_files import MetricFiles

LAST = 40  # step of the newest checkpoint; one every 2 steps


def files_of(checkpoint: Path) -> list[Path]:
    """All its files, in a fixed order."""
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    """Return every byte that a run needs to resume."""
    paths = [path for part in ("checkpoints", "replay", "metrics") for path in files_of(folder / part)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# Damaged files.


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def replace_by_text(path: Path) -> None:
    path.write_text("precious notes\n")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "flipped": flip,
    "empty": empty,
    "lengthened": lengthen,
    "text": replace_by_text,
    "missing": Path.unlink,
    "a folder": replace_by_folder,
}


def first_then_slow(names: Iterable[Any], number: int = 1) -> list[Any]:
    """Parameters of which all but the first ``number`` are run by name."""
    return [name if place < number else pytest.param(name, marks=pytest.mark.slow) for place, name in enumerate(names)]


@pytest.mark.parametrize("turn", first_then_slow(range(len(DAMAGES))))
def test_each_file_damaged_in_a_checkpoint_of_its_own(turn, finished, run_again, tmp_path):
    """Each in another way; in seven turns each in all."""
    folder = finished.copy_to(tmp_path / "run")
    newest_first = checkpoints(folder)[::-1]
    names = [path.relative_to(newest_first[0]).as_posix() for path in files_of(newest_first[0])]
    assert len(names) == 9
    kinds = [list(DAMAGES)[(turn + place) % len(DAMAGES)] for place in range(len(names))]
    for checkpoint, name, kind in zip(newest_first, names, kinds, strict=False):
        DAMAGES[kind](checkpoint / name)

    ran = run_again(folder).check_done()
    assert len(ran.skipped) == len(names)
    for line, checkpoint, name, kind in zip(ran.skipped, newest_first, names, kinds, strict=False):
        assert checkpoint.name in line
        assert name in line or (name == "SHA256SUMS" and kind == "flipped"), f"{name} {kind}: {line}"
    assert ran.resumed_from() == LAST - 2 * len(names)
    assert differences(outcome(folder), finished.outcome) == []


def test_a_damaged_older_checkpoint_does_not_stop_a_run_that_needs_it_not(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    newest, *older = checkpoints(folder)[::-1]
    shutil.rmtree(newest)
    for checkpoint, name in zip(older[1:], files_of(older[0]), strict=False):
        flip(checkpoint / name.relative_to(older[0]))
    ran = run_again(folder).check_done()
    assert ran.skipped == []
    assert ran.resumed_from() == LAST - 2
    assert differences(outcome(folder), finished.outcome) == []


@pytest.mark.parametrize("damage", first_then_slow(["flipped", "truncated", "empty", "lengthened", "text", "missing"]))
def test_a_damaged_chunk_of_the_replay_spoils_the_checkpoints_that_need_it(damage, finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    chunk = sorted((folder / "replay").iterdir())[-2]  # of steps 36 to 38
    DAMAGES[damage](chunk)
    ran = run_again(folder).check_done()
    assert [chunk.name in line for line in ran.skipped] == [True, True]
    assert ran.resumed_from() == 36
    assert differences(outcome(folder), finished.outcome) == []


def test_what_is_skipped_once_is_kept_aside_and_not_said_again(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    newest = checkpoints(folder)[-1]
    flip(newest / "manifest.json")
    before = contents(newest.parent.parent)
    run_again(folder)
    (aside,) = (folder / "checkpoints").glob("rejected-*")
    for path in files_of(aside):
        assert before[f"checkpoints/{newest.name}/{path.relative_to(aside)}"] == path.read_bytes()
    (folder / "result.json").unlink()
    ran = run_again(folder).check_done()
    assert ran.skipped == []
    assert ran.resumed_from() == LAST


def test_if_all_are_damaged_nothing_is_lost_and_one_repaired_is_enough(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    for checkpoint in checkpoints(folder):
        flip(checkpoint / "manifest.json")
    before = contents(folder)
    line = run_again(folder).error
    *older, newest = checkpoints(folder)
    for part in (newest.name, "manifest.json", f"and {len(older)} older", str(folder)):
        assert part in line
    assert contents(folder) == before

    middle = checkpoints(folder)[8]
    shutil.copytree(finished.folder / "checkpoints" / middle.name, middle, dirs_exist_ok=True)
    ran = run_again(folder).check_done()
    assert ran.resumed_from() == int(middle.name.split("-")[1])
    assert differences(outcome(folder), finished.outcome) == []


@pytest.mark.parametrize("damage", first_then_slow(["missing", "truncated", "empty", "text"]))
def test_a_run_whose_record_is_lost_resumes(damage, finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    DAMAGES[damage](folder / "run.json")
    ran = run_again(folder).check_done()
    assert ran.resumed_from() == LAST
    assert differences(outcome(folder), finished.outcome) == []


@pytest.mark.parametrize("damage", first_then_slow(["truncated", "empty", "text", "a folder", "binary"]))
def test_options_that_cannot_be_read_are_said_and_nothing_is_lost(damage, finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    config = folder / "config.yaml"
    if damage == "binary":
        config.write_bytes(b"\xff\xfe\x00")
    else:
        DAMAGES[damage](config)
    assert str(folder) in run_again(folder).error
    shutil.rmtree(config) if config.is_dir() else config.unlink()
    shutil.copy(finished.folder / "config.yaml", config)
    run_again(folder).check_done()
    assert differences(outcome(folder), finished.outcome) == []


def test_a_result_that_is_damaged_is_made_again(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    (folder / "result.json").write_text('{"total_frames": 40, "me')
    (folder / "weights.safetensors").write_text("")
    run_again(folder).check_done()
    assert differences(outcome(folder), finished.outcome) == []


def test_metrics_that_are_lost_or_damaged_come_back(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    shutil.rmtree(checkpoints(folder)[-1])
    shutil.rmtree(folder / "metrics/scalars/policy")
    truncate(folder / "metrics/scalars/world_model/loss_reward.csv")
    flip(folder / "metrics/scalars/world_model/loss_reconstruction.csv")
    ran = run_again(folder).check_done()
    told = [line for line in ran.out if line.startswith("metrics/")]
    assert any("world_model/loss_reward.csv was damaged" in line for line in told)
    assert any("world_model/loss_reconstruction.csv was damaged" in line for line in told)
    assert any("scalars/policy/" in line and "was lost" in line for line in told)
    assert differences(outcome(folder), finished.outcome) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "missing"])
def test_each_metric_file_damaged_in_turn_comes_back(damage, finished, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    (state,) = checkpoints(folder)[-1].glob("components/*-progress/state.safetensors")
    saved = read_state(state)["metric_files"]
    (run_id,) = (path.name[1:] for path in (folder / "metrics").glob(".*"))
    assert len(saved) > 15
    for name, content in saved.items():
        DAMAGES[damage](folder / "metrics" / name)
        (line,) = MetricFiles(folder / "metrics", run_id).load_state_dict(saved)
        assert name in line
        assert (folder / "metrics" / name).read_bytes() == content.numpy().tobytes()


@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_a_bit_flipped_in_the_final_weights_is_noticed(part, finished, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    shutil.copy(finished.folder / "weights.safetensors", folder)
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[int(part * len(data))] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    assert load_run(folder, trust=True).frame == LAST  # by the checkpoint
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(UsageError, match=r"weights\.safetensors is (damaged|no file)"):
        load_run(folder, trust=True)


@pytest.mark.slow
def test_no_flipped_bit_of_the_final_weights_is_taken_for_good(finished, tmp_path):
    whole = (finished.folder / "weights.safetensors").read_bytes()
    before, chance = read_weights(finished.folder / "weights.safetensors"), random.Random(0)
    for place in [*range(0, 400), *chance.sample(range(len(whole)), 600)]:
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        (tmp_path / "weights.safetensors").write_bytes(data)
        try:
            found = read_weights(tmp_path / "weights.safetensors")
        except DamagedError:
            continue
        assert found.frame == before.frame, place
        for name, state in before.networks.items():
            assert all(torch.equal(entry, found.networks[name][key]) for key, entry in state.items()), place


# Foreign files where a checkpoint is expected.


def put_other_run(path: Path, finished: Finished) -> None:
    shutil.copytree(checkpoints(finished.folder)[-1], path)
    change_manifest(path, metadata={"run": "0" * 32, "frame": 99})


def put_torchrl_checkpoint(path: Path, _: Finished) -> None:
    adapter = StateDictCheckpointAdapter(payload_format="torch")
    Checkpoint().register("model", torch.nn.Linear(2, 2), adapter=adapter).save(path)


def put_sealed_torchrl_checkpoint(path: Path, finished: Finished) -> None:
    put_torchrl_checkpoint(path, finished)
    write_sums(path)


def put_torchrl_archive(path: Path, _: Finished) -> None:
    Checkpoint(format="archive").register("model", torch.nn.Linear(2, 2)).save(path)


def put_text(path: Path, _: Finished) -> None:
    path.write_text("precious notes\n")


def put_empty_folder(path: Path, _: Finished) -> None:
    path.mkdir()


def put_sealed_empty_folder(path: Path, _: Finished) -> None:
    path.mkdir()
    write_sums(path)


def put_sealed_notes(path: Path, _: Finished) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("precious")
    write_sums(path)


FOREIGN: dict[str, Callable[[Path, Finished], None]] = {
    "another run's": put_other_run,
    "torchrl's": put_torchrl_checkpoint,
    "torchrl's with checksums": put_sealed_torchrl_checkpoint,
    "torchrl's archive": put_torchrl_archive,
    "a text": put_text,
    "an empty folder": put_empty_folder,
    "an empty folder with checksums": put_sealed_empty_folder,
    "notes with checksums": put_sealed_notes,
}


def test_foreign_checkpoints_are_skipped_and_kept(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    newest_of_it = checkpoints(folder)[-1]
    for number, put in enumerate(FOREIGN.values()):
        put(folder / "checkpoints" / f"checkpoint-{900 + number:012d}", finished)
    ran = run_again(folder).check_done()
    names = [f"checkpoint-{900 + number:012d}" for number in reversed(range(len(FOREIGN)))]
    for line, name in zip(ran.skipped, names, strict=True):
        assert name in line
    assert ran.resumed_from() == LAST
    assert newest_of_it.is_dir()
    assert differences(outcome(folder), finished.outcome) == []
    assert len([*(folder / "checkpoints").glob("*-0000000009*")]) == len(FOREIGN)  # set aside, under whatever name


@pytest.mark.parametrize("kind", first_then_slow(FOREIGN))
def test_a_foreign_checkpoint_alone_is_refused_in_one_line(kind, finished, run_again, tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "run.json"):
        shutil.copy(finished.folder / name, folder / name)
    FOREIGN[kind](folder / "checkpoints" / "checkpoint-000000000900", finished)
    assert "checkpoint-000000000900" in run_again(folder).error
    assert len([*(folder / "checkpoints").iterdir()]) == 1


# Somebody who knows the format: checksums and the run's name are right.


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def change_manifest(path: Path, **changes: Any) -> None:
    """Change a checkpoint's manifest and make its checksums right."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    reseal(path)


def reseal(path: Path) -> None:
    """Make its checksums right."""
    (path / "SHA256SUMS").unlink(missing_ok=True)
    write_sums(path)


def all_states(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("components/*/*.safetensors"))


def bomb_pickles(checkpoint: Path, bomb: Bomb) -> None:
    """In place of every state, a pickle."""
    for path in all_states(checkpoint):
        path.write_bytes(pickle.dumps(bomb))


def bomb_torch_files(checkpoint: Path, bomb: Bomb) -> None:
    """In place of every state, what torch.save makes."""
    for path in all_states(checkpoint):
        torch.save({"state": bomb}, path)


def bomb_companions(checkpoint: Path, bomb: Bomb) -> None:
    """Beside every state, the files from which torchrl and tensordict would unpickle."""
    for path in all_states(checkpoint):
        for name in ("state.pt", "other.pickle", "meta.pkl", "state_dict.pt", "data.pkl"):
            torch.save(bomb, path.with_name(name)) if name.endswith(".pt") else path.with_name(name).write_bytes(
                pickle.dumps(bomb)
            )


def bomb_adapters(checkpoint: Path, bomb: Bomb) -> None:
    """A manifest that asks for torchrl's own adapters, which unpickle."""
    bomb_companions(checkpoint, bomb)
    components = json.loads((checkpoint / "manifest.json").read_text())["components"]
    for component in components.values():
        component["adapter"] = "torchrl.state_dict"
    change_manifest(checkpoint, components=components)


def bomb_metadata(checkpoint: Path, bomb: Bomb) -> None:
    """In the texts of the state files."""
    for path in all_states(checkpoint):
        save_file(load_file(path), path, {"structure": pickle.dumps(bomb, protocol=0).decode("latin-1")})


BOMBS = [bomb_pickles, bomb_torch_files, bomb_companions, bomb_adapters, bomb_metadata]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that a bomb makes; first see that it does."""
    path = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists()
    path.unlink()
    return path


def test_nothing_in_a_checkpoint_is_unpickled(finished, run_again, tmp_path, marker):
    folder = finished.copy_to(tmp_path / "run")
    for checkpoint, bomb in zip(checkpoints(folder)[::-1], BOMBS, strict=False):
        bomb(checkpoint, Bomb(marker))
        reseal(checkpoint)
    ran = run_again(folder)
    assert not marker.exists()
    ran.check_done()
    assert len(ran.skipped) >= 2  # the companions are only files that nobody reads
    assert differences(outcome(folder), finished.outcome) == []


def test_nothing_beside_the_checkpoints_is_unpickled(finished, run_again, tmp_path, marker):
    folder = finished.copy_to(tmp_path / "run")
    torch.save(Bomb(marker), folder / "weights.safetensors")
    torch.save(Bomb(marker), folder / "weights.pt")
    torch.save(Bomb(marker), sorted((folder / "replay").iterdir())[-1])
    (folder / "replay" / "other.pickle").write_bytes(pickle.dumps(Bomb(marker)))
    assert load_run(folder, trust=True).frame == LAST  # the newest checkpoint's
    with pytest.raises(UsageError, match="damaged"):
        read_records(folder)
    run_again(folder).check_done()
    assert not marker.exists()
    assert differences(outcome(folder), finished.outcome) == []


def test_options_run_nothing(finished, run_again, tmp_path, marker):
    folder = finished.copy_to(tmp_path / "run")
    config = folder / "config.yaml"
    before = config.read_text()
    config.write_text(f"{before}\nextra: !!python/object/apply:os.system ['touch {marker}']\n")
    ran = run_again(folder)
    assert not marker.exists()
    assert "config.yaml" in ran.error
    with pytest.raises(UsageError):
        load_run(folder, trust=True)
    assert not marker.exists()


def nest(checkpoint: Path) -> None:
    for path in all_states(checkpoint):
        save_file({}, path, {"structure": "[" * 100_000})


def empty_structures(checkpoint: Path) -> None:
    for path in checkpoint.glob("components/*/state.safetensors"):
        write_state(path, {})


def state_is_a_list(checkpoint: Path) -> None:
    for path in checkpoint.glob("components/*/state.safetensors"):
        write_state(path, [1, 2])


def chunk_outside(checkpoint: Path) -> None:
    (path,) = checkpoint.glob("components/*-replay/state.safetensors")
    state = read_state(path)
    state["chunks"][0]["file"] = "../../../../etc/passwd"
    write_state(path, state)


def chunks_are_numbers(checkpoint: Path) -> None:
    (path,) = checkpoint.glob("components/*-replay/state.safetensors")
    write_state(path, {**read_state(path), "chunks": [1, 2]})


def no_metadata(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["metadata"]
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def manifest_is_a_list(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").write_text("[]")


def component_outside(checkpoint: Path) -> None:
    components = json.loads((checkpoint / "manifest.json").read_text())["components"]
    components["replay"]["path"] = "../../.."
    change_manifest(checkpoint, components=components)


def component_missing(checkpoint: Path) -> None:
    components = json.loads((checkpoint / "manifest.json").read_text())["components"]
    del components["policy"]
    change_manifest(checkpoint, components=components)


def other_shapes(checkpoint: Path) -> None:
    (path,) = checkpoint.glob("components/*-policy/state.safetensors")
    state = read_state(path)

    def double(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.cat([value.reshape(-1)] * 2)
        if isinstance(value, dict):
            return {key: double(item) for key, item in value.items()}
        return [double(item) for item in value] if isinstance(value, list) else value

    write_state(path, double(state))


CRAFTED = [
    nest,
    empty_structures,
    state_is_a_list,
    chunk_outside,
    chunks_are_numbers,
    no_metadata,
    manifest_is_a_list,
    component_outside,
    other_shapes,
]


def test_crafted_checkpoints_are_skipped(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    newest_first = checkpoints(folder)[::-1]
    for checkpoint, craft in zip(newest_first, CRAFTED, strict=False):
        craft(checkpoint)
        reseal(checkpoint)
    ran = run_again(folder).check_done()
    for line, checkpoint in zip(ran.skipped, newest_first[: len(CRAFTED)], strict=True):
        assert checkpoint.name in line
    assert ran.resumed_from() == LAST - 2 * len(CRAFTED)
    assert differences(outcome(folder), finished.outcome) == []


@pytest.mark.slow
@pytest.mark.parametrize("craft", CRAFTED)
def test_a_crafted_checkpoint_among_good_ones(craft, finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    newest = checkpoints(folder)[-1]
    craft(newest)
    reseal(newest)
    ran = run_again(folder).check_done()
    (line,) = ran.skipped
    assert newest.name in line
    assert ran.resumed_from() == LAST - 2
    assert differences(outcome(folder), finished.outcome) == []


def test_a_checkpoint_without_a_part_is_refused_by_name(finished, run_again, tmp_path):
    folder = finished.copy_to(tmp_path / "run")
    newest = checkpoints(folder)[-1]
    component_missing(newest)
    before = contents(folder)
    assert newest.name in run_again(folder).error  # whole, so not damaged: it may be of another version
    assert contents(folder) == before
    shutil.rmtree(newest)
    assert run_again(folder).check_done().resumed_from() == LAST - 2
