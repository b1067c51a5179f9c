"""Real steps, from where an earlier process left off if need be, and while the networks train if wanted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs import Compose, EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules.utils import get_primers_from_module

from torchrl_glam.envs.history import EnvHistory, from_state, to_state
from torchrl_glam.errors import UsageError


class ResumableCollector(Collector):
    """TorchRL's collector, whose state also says where the environment is: the next step is the one that was due.

    (``Collector.load_state_dict`` of torchrl 0.14.1 keeps the counters and begins new episodes.)

    Args:
        env: a real environment; an :class:`~torchrl_glam.envs.history.EnvHistory` is appended to it.
        policy: acts in it.
        new_episode_if_lost: begin a new episode where the environment does not repeat itself, instead of an error.
        kwargs: of ``Collector``.
    """

    def __init__(
        self, env: EnvBase, policy: TensorDictModuleBase, *, new_episode_if_lost: bool = False, **kwargs: Any
    ) -> None:
        self._history, self._new_episode_if_lost = EnvHistory(), new_episode_if_lost
        self._carrier: TensorDictBase  # what the next step starts from; public in no form in torchrl 0.14.1
        super().__init__(env.append_transform(self._history), policy, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps; the policy's weights are not in it."""
        return {
            "frames": self._frames,
            "iterations": self._iter,
            "trajectories": self._traj_pool.state_dict(),
            "transforms": self.env.state_dict(),
            "root": to_state(self._carrier),
            "history": self._history.history(),
        }

    def load_state_dict(self, state_dict: dict[str, Any], **_: Any) -> None:
        """Resume from the state of another collector, whose environment was made and seeded alike.

        Raises:
            UsageError: if the environment does not repeat itself.
        """
        self._frames, self._iter = state_dict["frames"], state_dict["iterations"]
        self._traj_pool.load_state_dict(state_dict["trajectories"])
        self.env.load_state_dict(state_dict["transforms"])
        root = from_state(state_dict["root"], like=self._carrier)
        try:
            self._history.replay(self.env, self._carrier, state_dict["history"], root)
        except UsageError:
            if not self._new_episode_if_lost:
                raise
            self._make_carrier()
        else:
            self._carrier = root


class OverlappedCollector:
    """Collects one real step per iteration and takes the next one while the caller works on it.

    Yields what ``Collector(env, policy, frames_per_batch=1, ...)`` yields, records [1] on the CPU with the same keys.
    The one difference: the action of step t + 1 is chosen before the record of step t is yielded, so by weights that
    were not yet trained on it.

    Actions, random or the policy's, are drawn in the caller's thread; the worker only steps the emulator, which has its
    own generator. Results thus never depend on timing. Of torchrl 0.14.1's own, none promises that: ``Collector.start``
    and the asynchronous multi-process collectors run the policy in the worker too, with whatever weights have reached
    it; ``ThreadingAsyncEnvPool`` does split sending an action from receiving its outcome, by the same kind of executor,
    but adds a dimension and an index to every record, for a loop that would have to be written all the same.

    Until the iteration ends, ``env`` belongs to the worker. One collector is iterated once.

    Args:
        env: a real environment without batch dimensions; the policy's primers are added to it.
        policy: writes ``action``, and reads what it needs from the last step.
        total_frames: steps to take; -1 never ends.
        init_random_frames: the first steps, whose actions are uniform.
        policy_device: where the policy runs.
        exploration_type: of the policy.
        new_episode_if_lost: see :class:`ResumableCollector`.

    Raises:
        UsageError: if ``env`` has batch dimensions.

    Examples:
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl_glam.envs import make_atari_env
        >>> env = make_atari_env("ALE/Pong-v5")
        >>> policy = TensorDictModule(lambda pixels: env.action_spec.rand(), in_keys=["pixels"], out_keys=["action"])
        >>> [step.shape for step in OverlappedCollector(env, policy, total_frames=2)]
        [torch.Size([1]), torch.Size([1])]
    """

    def __init__(
        self,
        env: EnvBase,
        policy: TensorDictModuleBase,
        *,
        total_frames: int = -1,
        init_random_frames: int = 0,
        policy_device: torch.device | str = "cpu",
        exploration_type: ExplorationType = ExplorationType.RANDOM,
        new_episode_if_lost: bool = False,
    ) -> None:
        if env.batch_size:
            batch = list(env.batch_size)
            raise UsageError(f"the environment has the batch size {batch}, overlapped collection wants a single one")
        self._history, self._new_episode_if_lost = EnvHistory(), new_episode_if_lost
        self._env = with_primers(env.append_transform(self._history), policy)
        self._policy, self._policy_device = policy, policy_device
        self._total_frames, self._init_random_frames = total_frames, init_random_frames
        self._exploration_type = exploration_type
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="emulator")
        self._root = self._env.reset()
        self._frames = self._trajectory = 0  # yielded
        self._stepping: Future | None = None

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Yield the steps' records [1].

        Raises:
            Exception: what the emulator raises, where the record of its step was due.
        """
        try:
            self._stepping = self._stepping or self._send(self._root)
            while self._stepping is not None:
                step, last = self._stepping.result()
                record = self._record(step, self._trajectory)
                self._frames, self._trajectory = self._frames + 1, self._trajectory + int(record["next", "done"].any())
                self._root = last  # where the next step starts, after the last one too
                self._stepping = self._send(last)
                yield record
        finally:
            self._worker.shutdown()

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, the current one included, which is awaited."""
        step, last = (None, self._root) if self._stepping is None else self._stepping.result()
        return {
            "frames": self._frames,
            "trajectory": self._trajectory,
            "transforms": self._env.state_dict(),
            "step": None if step is None else to_state(step),
            "root": to_state(last),
            "history": self._history.history(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`ResumableCollector.load_state_dict`; before the iteration begins."""
        self._frames, self._trajectory = state_dict["frames"], state_dict["trajectory"]
        self._env.load_state_dict(state_dict["transforms"])
        root = from_state(state_dict["root"], like=self._root)
        try:
            self._history.replay(self._env, self._root, state_dict["history"], root)
        except UsageError:
            if not self._new_episode_if_lost:
                raise
            root = self._env.reset()
        self._root = root
        if state_dict["step"] is not None:
            self._stepping = Future()
            self._stepping.set_result((from_state(state_dict["step"], like=self._root), root))

    def shutdown(self, close_env: bool = True) -> None:
        """Wait for the current step, end the worker, and close the environment if asked."""
        self._worker.shutdown()
        if close_env and not self._env.is_closed:
            self._env.close()

    @torch.no_grad()
    def _send(self, last: TensorDictBase) -> Future | None:
        """Choose the next action and send it to the worker, if another step is wanted."""
        if 0 <= self._total_frames <= self._frames:
            return None
        if self._frames < self._init_random_frames:
            last = self._env.rand_action(last)
        else:
            with set_exploration_type(self._exploration_type):
                chosen = self._policy(last.to(self._policy_device, non_blocking=True))
            last.update(chosen.select(*self._policy.out_keys, strict=False).to("cpu"))
        return self._worker.submit(self._step, last)

    @torch.no_grad()
    def _step(self, action: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        return self._env.step_and_maybe_reset(action)

    @staticmethod
    def _record(step: TensorDictBase, trajectory: int) -> TensorDictBase:
        """Return a copy [1] of ``step``, whose tensors the next step shares, with the number of its episode."""
        record = step.to("cpu").clone()
        return record.set(("collector", "traj_ids"), torch.tensor(trajectory)).unsqueeze(0)


def with_primers(env: EnvBase, policy: TensorDictModuleBase) -> EnvBase:
    """Return ``env`` with those primers of ``policy`` whose keys it lacks."""
    found = get_primers_from_module(policy, warn=False) or ()
    known = set(env.observation_spec.keys(True, True))
    for primer in found if isinstance(found, (Compose, tuple)) else (found,):
        if not known.issuperset(primer.primers.keys(True, True)):
            env = env.append_transform(primer)
    return env
