"""Real steps while the networks train: the emulator runs in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import Compose, EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules.utils import get_primers_from_module

from torchrl_glam.errors import UsageError


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
        total_frames: steps to take; -1 goes on for ever.
        init_random_frames: the first steps, whose actions are uniform.
        policy_device: where the policy runs.
        exploration_type: of the policy.

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
    ) -> None:
        if env.batch_size:
            batch = list(env.batch_size)
            raise UsageError(f"the environment has the batch size {batch}, overlapped collection wants a single one")
        self._env, self._policy, self._policy_device = with_primers(env, policy), policy, policy_device
        self._total_frames, self._init_random_frames = total_frames, init_random_frames
        self._exploration_type = exploration_type
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="emulator")

    def __iter__(self) -> Iterator[TensorDictBase]:
        """Yields the steps' records [1].

        Raises:
            Exception: what the emulator raises, where the record of its step was due.
        """
        frames = trajectory = 0
        try:
            stepping = self._send(self._env.reset(), frames)
            while stepping is not None:
                step, last = stepping.result()
                record = self._record(step, trajectory)
                frames, trajectory = frames + 1, trajectory + int(record["next", "done"].any())
                stepping = self._send(last, frames)
                yield record
        finally:
            self._worker.shutdown()

    def shutdown(self, close_env: bool = True) -> None:
        """Waits for the step under way, ends the worker, and closes the environment if asked."""
        self._worker.shutdown()
        if close_env and not self._env.is_closed:
            self._env.close()

    @torch.no_grad()
    def _send(self, last: TensorDictBase, frames: int) -> Future | None:
        """Chooses the action after ``frames`` steps and hands it to the worker, if another step is wanted."""
        if frames == self._total_frames:
            return None
        if frames < self._init_random_frames:
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
        """A copy [1] of ``step``, whose tensors the next step shares, with the number of its episode."""
        record = step.to("cpu").clone()
        return record.set(("collector", "traj_ids"), torch.tensor(trajectory)).unsqueeze(0)


def with_primers(env: EnvBase, policy: TensorDictModuleBase) -> EnvBase:
    """Returns ``env`` with those primers of ``policy`` whose keys it lacks."""
    found = get_primers_from_module(policy, warn=False) or ()
    known = set(env.observation_spec.keys(True, True))
    for primer in found if isinstance(found, (Compose, tuple)) else (found,):
        if not known.issuperset(primer.primers.keys(True, True)):
            env = env.append_transform(primer)
    return env
