"""Run GLAM's updates, captured imagination and acting on a CUDA device that is not there; print what each noted.

``FAKE_CUDA=shim.so python -m tests.support.fake_cases GAME CASE...``. A case is options joined by blanks, and has a
line of JSON. One game in a process: a second one has crashed it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import warnings
from typing import Any

from tests.support import fake_cuda  # before torch

# isort: split
import torch
from tensordict import TensorDict
from torch._subclasses.fake_tensor import FakeTensorMode
from torchrl.data import Bounded
from torchrl.envs import EnvBase
from torchrl.objectives import OnlineDTLoss

from tests.support.configs import load
from tests.support.trained import SMALL, Trained
from torchrl_glam import factory
from torchrl_glam.config import Starts
from torchrl_glam.machine.compilation import CapturedPerConstants
from torchrl_glam.offline import MambaDMActor, make_decision_actor
from torchrl_glam.offline.training import DecisionUpdate
from torchrl_glam.training import DreamerObjective

CUDA = torch.device("cuda", 0)
KEPT: list[Any] = []  # a fake tensor that is freed early has crashed the process


class FakeCase:
    """One run's parts on the device that is not there.

    Args:
        overrides: its options.
        env: the real environment.
        rollout: records of it.
        mode: in which the device is possible.
    """

    def __init__(self, overrides: list[str], env: EnvBase, rollout: Any, mode: FakeTensorMode) -> None:
        self.trained = Trained(*overrides, device=CUDA, env=env, rollout=rollout.apply(mode.from_tensor))
        config = self.config = self.trained.config
        self.policy = factory.make_policy(
            config, self.trained.world_model, self.trained.actor, env.action_spec_unbatched
        )
        self.frame = rollout[0].select("pixels", "is_init", strict=False).apply(mode.from_tensor)

    def update(self) -> dict[str, torch.Tensor]:
        """Take one step of both updates, as a run does; return their metrics."""
        trained = self.trained
        metrics, latents = trained.update_world_model(trained.sequences.sample().to(CUDA, non_blocking=True))
        starts = trained.contexts.sample() if self.config.imagination.starts is Starts.replay else latents
        return {**metrics.to_dict(), **trained.update_policy(starts, self.config.imagination.horizon).to_dict()}

    def imagine(self) -> None:
        """Capture imagination as a graph, and replay it."""
        imagined, actor = self.trained.imagined, self.trained.actor
        run = CapturedPerConstants(imagined._imagine)
        data = self._starts()
        with torch.no_grad():
            start = self.trained.update_policy.objective.start(data).select("state", "belief", "memory")
            for _ in range(3):
                run(start, actor, 4)

    def _starts(self) -> Any:
        if self.config.imagination.starts is Starts.replay:
            return self.trained.contexts.sample()
        return self.trained.update_world_model(self.trained.sequences.sample().to(CUDA))[1]

    def act(self, found: dict[str, int]) -> None:
        """Choose an action for a frame that is on the device, and write what that noted into ``found``."""
        with torch.no_grad():
            step = self.frame.copy().update(self.policy.make_tensordict_primer().primers.zero()).to(CUDA)
            step = self.policy(step)
            with fake_cuda.watched(found):
                self.policy(step)

    def restore(self) -> list[str]:
        """Save the state of both updates, load it from the CPU and step; return what is left on another device."""
        lost: list[str] = []
        for update in (self.trained.update_world_model, self.trained.update_policy):
            on_cpu = torch.utils._pytree.tree_map_only(torch.Tensor, lambda value: value.cpu(), update.state_dict())
            update.load_state_dict(on_cpu)
            for state in update.optimizer.state.values():
                lost += [name for name, value in state.items() if not value.is_cuda]
        self.update()
        return sorted(set(lost))


def run_offline() -> dict[str, Any]:
    """Return what the second of two updates of MambaDM noted, with continuous actions and a distribution of them."""
    said: dict[str, Any] = {"update": {}}
    spec = Bounded(-2.0, 2.0, shape=(2,))
    sizes = {"observation": 3, "action": 2, "return_to_go": 1}
    with fake_cuda.fake_cuda() as mode:
        actor = MambaDMActor((3,), 2, width=16, num_layers=1, output_size=4).to(CUDA)
        loss = OnlineDTLoss(make_decision_actor(actor, spec, stochastic=True), alpha_init=0.1).to(CUDA)
        update = DecisionUpdate(loss, actor, lr=1e-3, weight_decay=0.1, warmup_updates=1, total_updates=9, max_norm=1.0)
        windows = TensorDict({key: torch.zeros(4, 5, size, device=CUDA) for key, size in sizes.items()}, [4, 5])
        KEPT.append((actor, loss, update, windows, mode))
        update(windows)
        with fake_cuda.watched(said["update"]):
            update(windows)
    return said


def run(overrides: list[str], env: EnvBase, rollout: Any) -> dict[str, Any]:
    """Return the notes of a second update, of imagination, of acting, and what was not on the device."""
    said: dict[str, Any] = {"update": {}, "acting": {}}
    with fake_cuda.fake_cuda() as mode:
        case = FakeCase(overrides, env, rollout, mode)
        KEPT.append((case, mode))
        case.update()
        with fake_cuda.watched(said["update"]):
            metrics = case.update()
        said["elsewhere"] = sorted(name for name, value in metrics.items() if not value.is_cuda)
        said["not restored"] = case.restore()
        said["skips"] = all(
            update.optimizer.found_inf.is_cuda
            for update in (case.trained.update_world_model, case.trained.update_policy)
        )
        if not isinstance(case.trained.update_policy.objective, DreamerObjective):  # it imagines with gradients
            case.imagine()
        case.act(said["acting"])
    return said


def main(game: str, *cases: str) -> None:
    """Run each case and print its notes."""
    gc.disable()
    fake_cuda.install()
    warnings.filterwarnings("ignore", message="Accessing the data pointer")
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    name = f"env.name=tests.support.games:{game}-v0"
    env = factory.make_env(load(*SMALL, name))
    rollout = env.rollout(160, break_when_any_done=False)
    for case in cases:
        said = run_offline() if case == "offline" else run([name, *case.split()], env, rollout)
        sys.stdout.write(json.dumps({"case": case, **said}) + "\n")
        sys.stdout.flush()
    os._exit(0)  # freeing the fakes has crashed it


if __name__ == "__main__":
    main(*sys.argv[1:])
