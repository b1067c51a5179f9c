"""The logs of the DQN replay dataset (arXiv 1907.04543), which Dopamine writes, as a Minari dataset.

A folder ``GAME/RUN/replay_logs`` holds, for each checkpoint ``N`` of a million steps, arrays of NumPy packed by gzip:
``$store$_observation_ckpt.N.gz`` [n h w] uint8, single grey frames, and ``action``, ``reward`` and ``terminal`` [n].
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from torchrl_glam import __version__
from torchrl_glam.data.minari_files import check_new_dataset, write_dataset
from torchrl_glam.envs.gymnasium import find_spec, is_ale
from torchrl_glam.errors import UsageError, first_line
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.offline.records import choose_evenly
from torchrl_glam.runs.foreign import check_regular

FILE = "$store$_{}_ckpt.{}.gz"
STEP_ENTRIES = ("action", "reward", "terminal")
MOST_STEPS = 10_000_000  # of a checkpoint; those of the dataset have a tenth
PADDING = 3  # steps of black frames, action 0 and reward 0, that Dopamine writes before each episode


@dataclass(frozen=True)
class Checkpoint:
    """The steps [n] of one checkpoint, without their frames."""

    number: int
    action: NDArray[Any]
    reward: NDArray[Any]
    terminal: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.terminal)


@dataclass(frozen=True)
class Span:
    """An episode: steps ``start`` to ``stop`` (exclusive), counted through all checkpoints of the folder."""

    start: int
    stop: int


def import_dqn_replay(
    folder: Path,
    env_name: str,
    dataset_id: str,
    *,
    root: Path,
    fraction: float = 1.0,
    progress: bool = False,
) -> int:
    """Write episodes of the DQN replay to a new Minari dataset.

    Only whole episodes count: neither the last one of the last checkpoint, nor one that began in a checkpoint that is
    not there. The frame before the last step stands for the one after it, which the logs lack. Rewards stay as they
    are, in this dataset clipped to -1 .. 1.

    Args:
        folder: ``replay_logs`` of one run of one game, with some checkpoints or all.
        env_name: the game, as ``"ALE/Pong-v5"``.
        dataset_id: ``(namespace/)name-v0``, a new one.
        root: the folder of datasets.
        fraction: the share of the episodes, spread evenly over all of them; 0.01 in the Decision Transformer.
        progress: is given the episodes and their number, and returns them.

    Returns:
        The number of episodes.

    Raises:
        UsageError: if files are missing, damaged or of another form, they hold no whole episode, they do not fit the
            game, or the dataset cannot be written.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction={fraction}: give the share of the episodes, above 0 and at most 1")
    check_new_dataset(dataset_id, root)
    checkpoints = read_checkpoints(folder)
    spans = find_episodes(checkpoints)
    if not spans:
        raise UsageError(f"folder={folder} holds no whole episode: give more of its checkpoints")
    chosen = [spans[place] for place in choose_evenly(len(spans), fraction).tolist()]
    frame = _frame_shape(folder, checkpoints[0])
    spec = find_spec(env_name)
    actions = _check_game(folder, env_name, frame, int(max(part.action.max() for part in checkpoints)))
    numbers = f"{checkpoints[0].number} to {checkpoints[-1].number}"
    episodes = _stream_episodes(folder, checkpoints, chosen, frame)
    write_dataset(
        dataset_id,
        progress_bar(iterable=episodes, total=len(chosen), desc="episodes", unit="episode", disable=not progress),
        root=root,
        env=spec,
        observation_space=Box(0, 255, frame, np.uint8),
        action_space=Discrete(actions),
        algorithm_name="DQN",
        description=(
            f"{len(chosen)} of the {len(spans)} whole episodes in the checkpoints {numbers} of the DQN replay dataset "
            f"(arXiv 1907.04543) in {env_name}. The last observation of each is the one before it once more. "
            f"Converted by torchrl_glam {__version__}."
        ),
    )
    return len(chosen)


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """Read actions, rewards and ends of all checkpoints in a folder, in the order of their numbers.

    Raises:
        UsageError: if there are none, or files are missing, damaged or of another form.
    """
    prefix, _, suffix = FILE.format("terminal", "*").partition("*")
    found = [path.name.removeprefix(prefix).removesuffix(suffix) for path in folder.glob(FILE.format("terminal", "*"))]
    numbers = sorted(int(number) for number in found if number.isdecimal())
    if not numbers:
        name = FILE.format("terminal", "0")
        raise UsageError(f"folder={folder} has no {name}: give the folder replay_logs of a game's run")
    checkpoints = []
    for number in numbers:
        entries = {}
        for name in STEP_ENTRIES:
            with _open_array(folder / FILE.format(name, number), 1) as (file, shape, dtype):
                entries[name] = np.frombuffer(_read(file, shape[0] * dtype.itemsize), dtype)
        if len({len(entry) for entry in entries.values()}) > 1:
            lengths = ", ".join(f"{len(entry)} of {name}" for name, entry in entries.items())
            raise UsageError(f"folder={folder}: its checkpoint {number} has {lengths}: copy its files again")
        checkpoints.append(Checkpoint(number, **entries))
    return checkpoints


def find_episodes(checkpoints: list[Checkpoint]) -> list[Span]:
    """Return the whole episodes, which may go on from one checkpoint into the next.

    Examples:
        >>> import numpy as np
        >>> from torchrl_glam.offline.dqn_replay import Checkpoint, find_episodes
        >>> ends = np.array([0, 1, 0, 1, 0])
        >>> find_episodes([Checkpoint(4, ends, ends, ends), Checkpoint(5, ends, ends, ends)])
        [Span(start=2, stop=4), Span(start=4, stop=7), Span(start=7, stop=9)]
    """
    spans: list[Span] = []
    offset, before = 0, -1
    starts: list[int] = []
    for checkpoint in checkpoints:
        if checkpoint.number != before + 1:
            starts = []  # that of its first episode is in a checkpoint that is not there
        elif before < 0:
            starts = [0]
        starts += (np.flatnonzero(checkpoint.terminal) + offset + 1).tolist()
        spans += [Span(start, stop) for start, stop in pairwise(starts)]
        starts = starts[-1:]
        offset, before = offset + len(checkpoint), checkpoint.number
    return spans


def _check_game(folder: Path, env_name: str, frame: tuple[int, int, int], highest: int) -> int:
    """Return the number of the game's actions.

    Raises:
        UsageError: if it is none of the ALE, or the logs have frames or actions that it lacks.
    """
    spec = find_spec(env_name)
    if not is_ale(spec):
        raise UsageError(f"env_name={env_name} is no game of the ALE: give one, such as ALE/Pong-v5")
    if frame[0] != frame[1]:
        raise UsageError(f"folder={folder} has frames of {frame[0]}x{frame[1]}: only square ones are read")
    env = make_decision_env(spec, frame=frame)
    actions = int(env.action_spec.shape[-1])
    env.close()
    if highest >= actions:
        raise UsageError(
            f"folder={folder} has the action {highest}, and {env_name} has {actions} actions: give the env_name of its "
            "game"
        )
    return actions


def _frame_shape(folder: Path, checkpoint: Checkpoint) -> tuple[int, int, int]:
    with _open_array(folder / FILE.format("observation", checkpoint.number), 3) as (_, (_, height, width), _):
        return height, width, 1


def _stream_episodes(
    folder: Path, checkpoints: list[Checkpoint], spans: list[Span], frame: tuple[int, int, int]
) -> Iterator[Any]:
    """Yield the episodes as Minari's; frames are read forwards, and only one episode's are in memory."""
    waiting, parts, offset = iter(spans), [], 0
    span = next(waiting, None)
    for checkpoint in checkpoints:
        path = folder / FILE.format("observation", checkpoint.number)
        end = offset + len(checkpoint)
        if span is None or span.start >= end:
            offset = end
            continue
        with _open_array(path, 3) as (file, shape, dtype):
            if shape != (len(checkpoint), *frame[:2]) or dtype != np.uint8:
                raise ValueError(f"frames {list(shape)} of {dtype}, and not {[len(checkpoint), *frame[:2]]} of uint8")
            begin, size = file.tell(), frame[0] * frame[1]
            while span is not None and span.start < end:
                start, stop = max(span.start, offset) - offset, min(span.stop, end) - offset
                file.seek(begin + start * size)
                frames = np.frombuffer(_read(file, (stop - start) * size), np.uint8).reshape(-1, *frame)
                steps = slice(start, stop)
                parts.append((frames, checkpoint.action[steps], checkpoint.reward[steps]))
                if span.stop > end:
                    break
                yield _to_buffer(*(np.concatenate(entries) for entries in zip(*parts, strict=True)))
                parts, span = [], next(waiting, None)
        offset = end


def _to_buffer(frames: NDArray[Any], action: NDArray[Any], reward: NDArray[Any]) -> Any:
    """Return an episode as Minari's, without the padding."""
    from minari.data_collector import EpisodeBuffer

    padded = 0
    most = min(PADDING, len(frames) - 1)
    while padded < most and not (frames[padded].any() or action[padded] or reward[padded]):
        padded += 1
    steps = len(frames) - padded
    ended = np.arange(steps) == steps - 1
    return EpisodeBuffer(
        observations=np.concatenate([frames[padded:], frames[-1:]]),
        actions=action[padded:].astype(np.int64),
        rewards=reward[padded:].astype(np.float64),
        terminations=ended,
        truncations=np.zeros(steps, dtype=bool),
    )


@contextmanager
def _open_array(path: Path, dims: int) -> Iterator[tuple[Any, tuple[int, ...], np.dtype[Any]]]:
    """Open a packed array after its header.

    Raises:
        UsageError: if it is damaged, is no array of numbers of so many dimensions, or holds too many steps; and in
            place of what reading it raises.
    """
    try:
        check_regular(path)
        with gzip.open(path) as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = header(file)
            if len(shape) != dims or fortran or dtype.kind not in "biuf" or not 0 < shape[0] <= MOST_STEPS:
                raise ValueError(f"an array {list(shape)} of {dtype}, and not of steps")
            yield file, shape, dtype
    except (EOFError, OSError, UsageError, ValueError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read ({first_line(error)}): copy it again") from error


def _read(file: Any, size: int) -> bytes:
    """Read so many bytes; ``EOFError`` where there are fewer."""
    data: bytes = file.read(size)
    if len(data) < size:
        raise EOFError("it ends too early")
    return data
