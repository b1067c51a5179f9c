"""Datasets that are missing, damaged or unsuitable: an error of one line for each."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from tests.support.datasets import (
    CART_POLE,
    LENGTHS,
    MOVES,
    PENDULUM,
    PIXELS,
    PONG,
    VECTORS,
    load,
    write_episodes,
)
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.dataset import load_dataset
from torchrl_glam.offline.recorded import check_arguments

IDS = "ids read name-v0 or namespace/name-v0, and a namespace has at least 2 letters"


def change_step(entry, value):
    """A change of one entry of one step of the second episode."""

    def change(episode, entries):
        if episode == 1:
            entries[entry][2] = value

    return change


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"env_name": None}, "names no environment: give env.name, the one it was recorded in"),
        ({"env_name": "Pendulm-v1"}, "there is no environment 'Pendulm-v1': did you mean Pendulum-v1"),
        ({"env_name": "CartPole-v1"}, "has observations [3], the environment CartPole-v1 observations [4]"),
        ({"actions": Discrete(2)}, "has 2 discrete actions, the environment Pendulum-v1 actions from [-2.0] to [2.0]"),
        ({"actions": Box(-1, 1, (1,))}, "has actions from [-1.0] to [1.0], the environment Pendulum-v1 actions from"),
        ({"env": PENDULUM, "env_name": "CartPole-v1"}, "was recorded in Pendulum-v1, not in CartPole-v1: leave"),
        ({"env_name": "tests.support.games:Corridor-v0"}, "Corridor-v0 observes direction, image"),
        ({"lengths": ()}, "has no episodes"),
        ({"change": change_step("rewards", np.nan)}, "has rewards that are missing or not finite (nan, inf), in 1 of"),
        ({"change": change_step("observations", np.inf)}, "has observations that are missing or not finite"),
        ({"change": change_step("observations", 1e300)}, "has observations that are missing or not finite"),
        ({"change": change_step("actions", np.nan)}, "has actions that are missing or not finite"),
        ({"change": change_step("actions", 2.1)}, "has actions that are not in Box(-2.0, 2.0, (1,), float32), in 1 of"),
        (
            {"change": change_step("actions", 2), "env_name": "CartPole-v1", **CART_POLE},
            "has actions that are not in Discrete(2), in 1 of 17 steps, the first of them in episode 1",
        ),
        ({"actions": MultiDiscrete([2, 2]), "lengths": ()}, "has the actions MultiDiscrete([2 2]): choose one with"),
        ({"actions": Dict(a=MOVES), "lengths": ()}, "has the actions Dict('a': Discrete(6)): choose one with"),
        ({"actions": Box(-np.inf, 1, (1,)), "lengths": ()}, "has the actions Box(-inf, 1.0, (1,), float32): choose"),
        ({"actions": Box(-1, 1, (1, 1)), "lengths": ()}, "has the actions Box(-1.0, 1.0, (1, 1), float32): choose"),
        ({"observations": Dict(a=VECTORS), "lengths": ()}, "has the observations Dict('a': Box(-inf, inf, (3,)"),
        ({"observations": Box(0, 255, (3, 64, 64), np.uint8), "lengths": ()}, "or with images, a Box [h w 3]"),
    ],
)  # fmt: skip
def test_datasets_that_do_not_suit_are_refused(tmp_path, options, line):
    if options.get("env") == PENDULUM:
        options = {**options, "observations": Box(-8, 8, (3,), np.float32)}
    with pytest.raises(UsageError) as error:
        load(tmp_path, **options)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_a_fraction_is_above_0_and_at_most_1(tmp_path, fraction):
    with pytest.raises(UsageError, match=f"fraction={fraction}: give the share"):
        load_dataset("tests/counting-v0", root=tmp_path, fraction=fraction)


@pytest.mark.parametrize(
    ("dataset_id", "line"),
    [
        ("tests/counting-v1", "(and downloads are off): did you mean tests/counting-v0?"),
        (
            "counting",
            f"({IDS}): did you mean tests/counting-v0?",
        ),
        (
            "../tests/counting-v0",
            f"({IDS}): did you mean tests/counting-v0?",
        ),
    ],
)
def test_an_unknown_dataset_is_named_with_near_matches(tmp_path, dataset_id, line):
    write_episodes(tmp_path)
    with pytest.raises(UsageError) as error:
        load_dataset(dataset_id, root=tmp_path, env_name=PENDULUM, download=False)
    assert str(error.value) == f"there is no dataset {dataset_id} in {tmp_path} {line}"


def test_a_name_that_is_refused_is_not_what_was_meant(tmp_path):
    write_episodes(tmp_path)
    shutil.copytree(tmp_path / "tests" / "counting-v0", tmp_path / "a" / "counting-v0")
    with pytest.raises(UsageError, match=r"at least 2 letters\): did you mean tests/counting-v0\?$"):
        load_dataset("a/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)
    shutil.rmtree(tmp_path / "tests")
    with pytest.raises(UsageError, match="the folder holds no other"):
        load_dataset("a/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(UsageError, match="the folder holds no other, give another root"):
        load_dataset("tests/counting-v0", root=tmp_path / "none", env_name=PENDULUM, download=False)


def in_file(change):
    """Return a damage: a change of the open hdf5 file."""

    def damage(folder):
        with h5py.File(folder / "main_data.hdf5", "a") as file:
            change(file)

    return damage


def drop(name):
    """Return a damage: an entry of the file is lost."""
    return in_file(lambda file: file.__delitem__(name))


def shorten(entry, steps):
    """Return a damage: fewer steps in the third episode."""
    return in_file(lambda file: file["episode_2"][entry].resize(steps, axis=0))


def cut(folder):
    """Lose half of the file."""
    path = folder / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def in_metadata(**entries):
    """Return a damage: other metadata."""

    def change(folder):
        path = folder / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (cut, "cannot be read (OSError: "),
        (lambda folder: (folder / "main_data.hdf5").write_text("?"), "cannot be read (OSError: "),
        (lambda folder: (folder / "main_data.hdf5").unlink(), "cannot be read (main_data.hdf5: No such file"),
        (lambda folder: (folder / "metadata.json").unlink(), "cannot be read (metadata.json: No such file"),
        (lambda folder: (folder / "metadata.json").write_text("{"), "cannot be read (metadata.json: damaged, "),
        (in_metadata(minari_version="9.0"), "cannot be read (ValueError: The installed Minari version"),
        (in_metadata(total_steps=18), "holds 17 steps in 4 episodes, its metadata name 18 in 4)"),
        (drop("episode_3"), "holds 12 steps in 3 episodes, its metadata name 17 in 4)"),
        (in_file(lambda file: file.move("episode_1", "first")), "cannot be read (ValueError: invalid literal"),
        (drop("episode_2/rewards"), "cannot be read (episode_2 has no rewards)"),
        (shorten("rewards", 0), "cannot be read (episode_2 has no steps)"),
        (shorten("actions", 0), "cannot be read (episode_2 has 0 actions where its 1 rewards need 1)"),
        (shorten("observations", 1), "cannot be read (episode_2 has 1 observations where its 1 rewards need 2)"),
    ],
)  # fmt: skip
def test_a_damaged_dataset_is_named_in_a_line(tmp_path, damage, line):
    write_episodes(tmp_path, LENGTHS)
    damage(tmp_path / "tests" / "counting-v0" / "data")
    with pytest.raises(UsageError) as error:
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_jpeg_images_are_refused(tmp_path):
    write_episodes(tmp_path, observations=PIXELS, actions=MOVES)
    in_metadata(jpeg_encoding=True)(tmp_path / "tests" / "counting-v0" / "data")
    with pytest.raises(UsageError, match="has its images as JPEG, which are not read"):
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PONG)


def test_a_download_that_fails_is_named_in_a_line(tmp_path, monkeypatch):
    def refuse(*address):
        raise OSError("no network\nat all")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    write_episodes(tmp_path)
    with pytest.raises(UsageError) as error:
        load_dataset("tests/count-v0", root=tmp_path, env_name=PENDULUM)
    assert str(error.value) == (
        f"there is no dataset tests/count-v0 in {tmp_path} (and it cannot be downloaded: no network): "
        "did you mean tests/counting-v0?"
    )


# Datasets from somebody else.


def change_metadata(root, **changes):
    """Write a dataset, and change its metadata; None removes an entry."""
    write_episodes(root)
    path = root / "tests/counting-v0/data/metadata.json"
    metadata = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in metadata.items() if value is not None}))
    return path


def specification(**changes):
    return json.dumps({**json.loads(gymnasium.spec(PENDULUM).to_json()), **changes})


def wrapped(kind="FrameStackObservation", number=1, **changes):
    wrapper = {"name": "ReshapeObservation", "entry_point": f"gymnasium.wrappers:{kind}", "kwargs": {}, **changes}
    return specification(additional_wrappers=[wrapper] * number)


SPACES = {"observation_space": None, "action_space": None}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"env_spec": specification(id=f"foreign_code:{PENDULUM}")}, "'foreign_code' (env_spec.id)"),
        ({"env_spec": specification(entry_point="foreign_code:Game")}, "'foreign_code:Game' (env_spec.entry_point)"),
        (
            {"env_spec": specification(id="X-v1", entry_point="os:system", kwargs={"command": "touch x"}), **SPACES},
            "'os:system' (env_spec.entry_point)",
        ),
        ({"eval_env_spec": specification(entry_point="foreign_code:Game")}, "'foreign_code:Game'"),
    ],
)
def test_nothing_that_a_dataset_names_is_imported(tmp_path, changes, named, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "foreign_code.py").write_text("raise SystemExit('imported')\n")
    change_metadata(tmp_path, **changes)
    with pytest.raises(UsageError) as error:
        load_dataset("tests/counting-v0", root=tmp_path, download=False)
    for part in ("the dataset tests/counting-v0 would import", named, "trust=true"):
        assert part in str(error.value)


def test_a_module_that_the_user_names_is_trusted_for_the_dataset_too(tmp_path):
    change_metadata(tmp_path, env_spec=specification(id=f"json:{PENDULUM}"))
    with pytest.raises(UsageError, match="would import 'json'"):
        load_dataset("tests/counting-v0", root=tmp_path, download=False)
    for options in ({"trust": True}, {"env_name": f"json:{PENDULUM}"}):
        assert load_dataset("tests/counting-v0", root=tmp_path, download=False, **options).num_episodes == len(LENGTHS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"total_episodes": 10**13}, "total_episodes is out of range"),
        ({"total_steps": 1e23}, "total_steps is damaged: too large"),
        ({"total_steps": "all"}, "total_steps is 'all' and not a number"),
        ({"ref_max_score": "1e999"}, "ref_max_score is '1e999' and not a number"),
        ({"action_space": "[" * 100_000}, "damaged"),
        ({"action_space": '{"type": "Discrete", "n": 100000000000}'}, "cannot be read|has the actions Discrete"),
        ({"env_spec": "[]"}, "its environment has no names"),
        ({"env_spec": specification(kwargs=[1])}, "the arguments of its environment have no names"),
        ({"env_spec": specification(id=[1])}, "its environment has no id"),
        ({"env_spec": specification(max_episode_steps="x")}, "max_episode_steps of its environment is not"),
        ({"env_spec": specification(additional_wrappers=5)}, "the wrappers of its environment are no list"),
        ({"env_spec": specification(additional_wrappers=[5])}, "a wrapper of its environment has no names"),
        ({"env_spec": specification(additional_wrappers=[{"name": 5}])}, "a wrapper of it has no name"),
        ({"env_spec": wrapped(kwargs=[1])}, "the arguments of a wrapper of it have no names"),
    ],
)
def test_metadata_out_of_range(tmp_path, changes, reason):
    change_metadata(tmp_path, **changes)
    with pytest.raises(UsageError, match=reason) as error:
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (wrapped(kwargs={"stack_size": 10**9}), "stack_size beyond 10,000"),
        (wrapped(kwargs={"stack_size": 9000}, number=2), "wrappers that make huge observations"),
        (wrapped(number=1000), "more than 10,000 characters of arguments"),
        (specification(kwargs={"desc": ["S" * 3000] * 3000}), "more than 10,000 characters of arguments"),
        (specification(kwargs={"xml_file": "any.xml"}), "xml_file='any.xml', which names a file"),
        (specification(kwargs={"deep": [{"map": "/etc/passwd"}]}), "map='/etc/passwd', which names a file"),
        (specification(kwargs={"g": 1e9}), "g beyond 10,000"),
        (specification(kwargs={"g": math.nan}), "g beyond 10,000"),
        (specification(kwargs={"g": 10**400}), "g beyond 10,000"),
        (specification(kwargs={"max_steps": 2**31}), "max_steps beyond 2,147,483,647"),
    ],
)
@pytest.mark.parametrize("which", ["env_spec", "eval_env_spec"])
def test_arguments_of_an_environment_are_bounded_and_name_no_files(tmp_path, spec, reason, which):
    change_metadata(tmp_path, **{which: spec})
    with pytest.raises(UsageError, match=f"{reason}.*add trust=true") as error:
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_ordinary_arguments_pass():
    check_arguments("tests/counting-v0", json.loads(specification(kwargs={"range": [0.2, math.inf], "desc": ["SFFG"]})))
    stacked = wrapped(kwargs={"stack_size": 4, "max_episode_steps": 10**6, "shape": [84, 84]})
    check_arguments("tests/counting-v0", json.loads(stacked))
    check_arguments("tests/counting-v0", json.loads(wrapped("ReshapeObservation", 3, kwargs={"shape": [210, 160, 3]})))


@pytest.mark.parametrize("chunks", [None, True])
@pytest.mark.parametrize("entry", ["rewards", "observations", "actions"])
def test_steps_that_were_never_written_take_no_memory(tmp_path, entry, chunks):
    path = change_metadata(tmp_path).with_name("main_data.hdf5")
    with h5py.File(path, "a") as file:
        width = file[f"episode_2/{entry}"].shape[1:]
        for name in ("rewards", "observations", "actions", "terminations", "truncations"):
            if name == entry or entry == "rewards":
                shape = (3 * 10**8 + (name == "observations"), *file[f"episode_2/{name}"].shape[1:])
                shape = shape if entry == "rewards" else (file[f"episode_2/{name}"].shape[0], *(10**7 for _ in width))
                del file[f"episode_2/{name}"]
                file.create_dataset(f"episode_2/{name}", shape, "f8", chunks=chunks)
    with pytest.raises(UsageError, match=r"episode_2 has \w+ that were never written|episode_2 has \d+ \w+ where"):
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)


@pytest.mark.parametrize("name", ["metadata.json", "main_data.hdf5"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    path = change_metadata(tmp_path).with_name(name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="it is a pipe or a device"):
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)


@pytest.mark.parametrize("what", ["an episode", "an entry", "its numbers"])
def test_no_other_file_is_read(tmp_path, what):
    path = change_metadata(tmp_path).with_name("main_data.hdf5")
    shutil.copy(path, tmp_path / "other.hdf5")
    with h5py.File(path, "a") as file:
        if what == "an episode":
            del file["episode_0"]
            file["episode_0"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/episode_0")
            reason = "is a link"
        else:
            del file["episode_0"]["rewards"]
            reason = "has its rewards elsewhere"
            if what == "an entry":
                file["episode_0"]["rewards"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/episode_0/rewards")
            else:
                outside = [("/etc/hostname", 0, 32)]
                file["episode_0"].create_dataset("rewards", (LENGTHS[0],), "f8", external=outside)
    with pytest.raises(UsageError, match=reason):
        load_dataset("tests/counting-v0", root=tmp_path, env_name=PENDULUM, download=False)
