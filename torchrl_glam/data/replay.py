"""Real experience: frames in as bytes, sequences [b t] out."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import LazyTensorStorage, RoundRobinWriter, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import RandomSampler
from torchrl.data.replay_buffers.storages import Storage
from torchrl.data.replay_buffers.writers import ImmutableDatasetWriter
from torchrl.envs import Transform

from torchrl_glam.errors import UsageError

OBSERVATIONS = ("pixels", "observation")
"""What a record may keep of what was observed: the root's only, half the memory, for a sequence holds the next ones."""

OTHERS = ("action", ("next", "reward"), ("next", "terminated"), ("next", "done"), ("next", "life_loss"))
"""What every record keeps besides."""


def select_record(tensordict: TensorDictBase) -> TensorDictBase:
    """Return the entries of a step that the replay keeps."""
    return tensordict.select(*OBSERVATIONS, strict=False).update(tensordict.select(*OTHERS))


def make_replay(
    capacity: int,
    *,
    sequences: tuple[int, int] = (32, 64),
    contexts: tuple[int, int] = (1024, 16),
    newest: int = 0,
    rewarded: int = 0,
    num_envs: int = 1,
    device: torch.device | str = "cpu",
    pin_memory: bool = False,
) -> tuple[TensorDictReplayBuffer, TensorDictReplayBuffer]:
    """Make two views of one ring of ``capacity`` records, which differ in the windows they sample.

    The first is written by ``extend``, with records as a collector yields them: [t] of one environment, [num_envs t] of
    several; of which :func:`select_record` keeps some keys. The second only reads. ``sample()`` of each returns windows
    [b t] of one environment's consecutive records and ``index``, their place in the ring. Windows are drawn uniformly
    with replacement and cross the ends of episodes, as in STORM (arXiv 2310.09615), but never the ring's seam. To save
    both, save the first, which owns the writer.

    Args:
        capacity: records held, of all environments, before the oldest are overwritten, rounded down to a multiple of
            ``num_envs``; one of 64x64 takes 12.5 kB.
        sequences: number and length (b, t) of the windows of the first buffer, for the world model.
        contexts: the same of the second, from which imagination starts.
        newest: each batch holds this many windows that are the newest ones; the rest come from the older ones.
        rewarded: each batch of the first buffer holds this many windows with a reward in them.
        num_envs: environments that take their steps together. The ring holds their records in turns.
        device: where the records lie and the samples come out, see :func:`torchrl_glam.data.ring_device`.
        pin_memory: whether samples come out in pinned memory, for copies to a GPU; ``device`` is the CPU then.

    Raises:
        UsageError: if there are no environments, or more than the ring has room for.
        ValueError: by ``sample``, if there are too few records, and by ``extend``, if they are of another kind.

    Examples:
        >>> from torchrl_glam.envs.atari import make_atari_env
        >>> replay, contexts = make_replay(1000, sequences=(2, 8), contexts=(4, 3))
        >>> env = make_atari_env("ALE/Pong-v5")
        >>> indices = replay.extend(env.rollout(20))
        >>> replay.sample()["pixels"].shape, contexts.sample().shape
        (torch.Size([2, 8, 64, 64, 3]), torch.Size([4, 3]))
    """
    if not 1 <= num_envs <= capacity:
        raise UsageError(f"num_envs={num_envs} with capacity={capacity}: give 1 or more, and room for a step of each")
    storage = WindowStorage(capacity - capacity % num_envs, device=device, pin_memory=pin_memory)
    writer = RoundRobinWriter()

    def view(windows: tuple[int, int], writer_of_view: Any, rewarded: int = 0) -> TensorDictReplayBuffer:
        batch_size, length = windows
        return TensorDictReplayBuffer(
            storage=storage,
            sampler=WindowSampler(writer, length, newest, rewarded, num_envs),
            writer=writer_of_view,
            transform=PackPixels(num_envs),
            batch_size=batch_size,
        )

    return view(sequences, writer, rewarded), view(contexts, ImmutableDatasetWriter())


def newest_records(replay: TensorDictReplayBuffer, number: int) -> TensorDictBase:
    """Return the last ``number`` records [n] written to the first buffer of :func:`make_replay`, oldest first.

    Of several environments, those of the first one.

    Raises:
        ValueError: if there are too few records.
    """
    num_envs, written = replay.sampler.num_envs, len(replay)
    if number > (held := written // num_envs):
        raise ValueError(f"the replay holds {held} records, {number} were asked for: collect more of them first")
    end = replay._writer._cursor  # public in no form in torchrl 0.14.1
    return replay[torch.arange(end - number * num_envs, end, num_envs) % written]


class WindowStorage(LazyTensorStorage):
    """A ring that reads windows by one ``index_select`` per key, straight into pinned memory if that is wanted.

    The fancy indexing of ``LazyTensorStorage`` takes twice as long on a CPU: 27 ms against 14 ms for 1024 windows of
    16 frames of 64x64 (of 100 000; one core, the system's page faults left out). The rest of ``sample`` takes 0.4 ms.
    Results are fresh tensors: a buffer that every call reuses would be overwritten in the hands of whoever still holds
    the last batch.

    Args:
        capacity: records held.
        device: where they lie.
        pin_memory: whether windows come out in pinned memory.
    """

    def __init__(self, capacity: int, *, device: torch.device | str, pin_memory: bool = False) -> None:
        super().__init__(capacity, device=device)
        self._pin_memory = pin_memory

    def get(self, index: Any) -> TensorDictBase:
        """Return the records of ``index``; of windows [b t], which a sampler has kept within what is written, fast."""
        if not self.initialized or not isinstance(index, Tensor) or index.ndim != 2:
            return super().get(index)
        rows = index.flatten()

        def gather(entry: Tensor) -> Tensor:
            shape = (len(rows), *entry.shape[1:])
            windows = torch.empty(shape, dtype=entry.dtype, device=entry.device, pin_memory=self._pin_memory)
            return torch.index_select(entry, 0, rows, out=windows).unflatten(0, index.shape)

        return self._storage.apply(gather, batch_size=index.shape)


class WindowSampler(RandomSampler):
    """Draws windows of consecutive records, each possible one equally likely.

    Why not ``RandomSampler`` with the sample unit ``Sequence(length, episode_boundary="stop", done_key=None)``: in
    torchrl 0.14.1 that draws the newest window ``length`` times as often as any other (an anchor too near the end is
    shifted back to it), and it takes the seam from the storage's last cursor, which neither ``state_dict`` nor
    ``dumps`` keeps: after a restart its windows cross the seam. The writer's cursor, used here, is kept.

    Args:
        writer: the ring's writer.
        length: records per window.
        newest: this many windows are the newest ones, the rest uniform over the older ones.
        rewarded: this many of the rest hold a reward that is drawn first, gains as often as losses, and lies anywhere
            in its window. Rare rewards are then seen often enough to be predicted.
        num_envs: the ring holds the records of this many environments in turns.
    """

    def __init__(
        self, writer: RoundRobinWriter, length: int, newest: int = 0, rewarded: int = 0, num_envs: int = 1
    ) -> None:
        self._writer, self._newest, self._rewarded, self.num_envs = writer, newest, rewarded, num_envs
        self._length = length
        self._span = (length - 1) * num_envs  # from a window's first record to its last

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict]:
        """Return the storage's indices of the windows [b t] and no further information.

        Raises:
            ValueError: if the ring holds too few records.
        """
        written = len(storage)
        older = written - self._span - self._newest
        if older < 1 or self._newest > batch_size:
            raise ValueError(self._refusal(storage, batch_size))
        # Drawn on the CPU, wherever the ring lies: `auto` then draws the same windows in both places.
        drawn = torch.randint(older, (batch_size - self._newest,), generator=self._rng)
        oldest = self._writer._cursor if written == storage.max_size else 0
        if self._rewarded:
            around = self._around_rewards(storage.get(slice(0, written)).get(("next", "reward")), oldest, older)
            drawn[: len(around)] = around
        start = torch.cat([torch.arange(older, older + self._newest), drawn])  # 0 is the oldest window
        steps = torch.arange(oldest, oldest + self._span + 1, self.num_envs, device=storage.device)
        # non_blocking: a copy that waited would let a GPU run dry; CUDA has read pageable memory when it returns.
        return (start.to(storage.device, non_blocking=True)[:, None] + steps) % written, {}

    def _around_rewards(self, rewards: Tensor, oldest: int, older: int) -> Tensor:
        """Draw the first steps of windows with a reward, below ``older``; none if there was no reward yet.

        On a GPU the ring's rewards are brought to the host.
        """
        rewards = rewards.flatten().cpu().roll(-oldest)[: older + self._span]  # no older window holds the others
        kinds = [steps for steps in ((rewards > 0).nonzero(), (rewards < 0).nonzero()) if len(steps)]
        starts = []
        for _ in range(self._rewarded if kinds else 0):
            steps = kinds[int(self._draw(len(kinds)))]
            step = int(steps[self._draw(len(steps))])
            back = min(int(self._draw(self._length)), step // self.num_envs)
            start = step - back * self.num_envs
            beyond = max(0, start - (older - 1))
            starts.append(start - -(-beyond // self.num_envs) * self.num_envs)
        return torch.tensor(starts, dtype=torch.long)

    def _draw(self, number: int) -> Tensor:
        return torch.randint(number, (), generator=self._rng)

    @property
    def write_count(self) -> int:
        """Records written so far to the ring."""
        return self._writer._write_count

    def _refusal(self, storage: Storage, batch_size: int) -> str:
        if self._newest > batch_size:
            return f"a batch of {batch_size} windows cannot hold the {self._newest} newest ones: lower newest"
        return (
            f"the replay holds {len(storage)} records (capacity {storage.max_size}), "
            f"sampling wants {self._span + 1 + self._newest} at least: collect more of them first"
        )


class PackPixels(Transform):
    """Holds images [.. h w 3] uint8 as [.. h w*3/8] int64, and leaves what :func:`select_record` does out of the ring.

    PyTorch gathers rows element by element, so eight bytes an element are up to eight times faster than one. Narrower
    elements serve where the width does not divide. Images of one channel are held as [.. h 1 w/8].

    Args:
        num_envs: records of several environments [num_envs t] are put in turns, [t num_envs], and flattened.
    """

    _ELEMENTS = ((8, torch.int64), (4, torch.int32), (2, torch.int16), (1, torch.uint8))

    def __init__(self, num_envs: int = 1) -> None:
        super().__init__()
        self._batch = [num_envs] if num_envs > 1 else []

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Pack records on their way in.

        Raises:
            ValueError: if they are not [t], or [num_envs t], with images of uint8 or vectors of floats.
        """
        shape, wanted = list(tensordict.shape), " ".join(map(str, [*self._batch, "t"]))
        entries = {key: tensordict.get(key) for key in OBSERVATIONS if key in tensordict}
        fits = {
            "pixels": lambda x: x.ndim == len(shape) + 3 and x.shape[-1] in (1, 3) and x.dtype == torch.uint8,
            "observation": lambda x: x.ndim == len(shape) + 1 and x.is_floating_point(),
        }
        good = bool(entries) and all(fits[key](entry) for key, entry in entries.items())
        if not shape or shape[:-1] != self._batch or not good:
            found = [f"{key} {list(entry.shape)} {entry.dtype}" for key, entry in entries.items()]
            raise ValueError(
                f"the replay got records {shape} with {' and '.join(found) or 'no observation'}: extend it with "
                f"records [{wanted}] and pixels [{wanted} h w 3] uint8 (or 1 channel), an observation [{wanted} n] of "
                "floats, or both"
            )
        records = select_record(tensordict)
        if self._batch:
            records = records.transpose(0, 1).flatten()
        images = records.get("pixels", None)
        if images is None:
            return records
        # Not `transpose`: it keeps a stride of 1 in a dimension of 1, which `view` refuses.
        rows = (images.flatten(-2) if images.shape[-1] == 3 else images.squeeze(-1).unsqueeze(-2)).contiguous()
        dtype = next(dtype for size, dtype in self._ELEMENTS if rows.shape[-1] % size == 0)
        return records.set("pixels", rows.view(dtype))

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Unpack records on their way out, without a copy; ``tensordict`` may be the ring itself and stays packed."""
        packed = tensordict.get("pixels", None)
        if packed is None:
            return tensordict.copy()
        rows = packed.view(torch.uint8)
        rgb = rows.ndim == tensordict.ndim + 2
        return tensordict.copy().set("pixels", rows.unflatten(-1, (-1, 3)) if rgb else rows.transpose(-1, -2))
