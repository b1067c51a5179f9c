"""Faults of TorchRL that this package works around: ``python docs/faults/in_torchrl.py [NAME ...]``.

Each function returns True while the fault is there. Versions: docs/torchrl_facts.md.
"""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

import gymnasium
import numpy as np
import torch
from shown import main
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torch._subclasses import FakeTensorMode
from torchrl.checkpoint import Checkpoint
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers import RandomSampler
from torchrl.data.replay_buffers.sample_units import Sequence
from torchrl.envs import (
    EnvBase,
    GymEnv,
    GymWrapper,
    Resize,
    StepCounter,
    ToTensorImage,
    TransformedEnv,
)
from torchrl.envs.utils import ExplorationType, exploration_type
from torchrl.modules import OneHotCategorical, ProbabilisticActor, TanhDelta, TanhNormal, ValueOperator
from torchrl.objectives import BCLoss, ClipPPOLoss, LossModule, ValueEstimators
from torchrl.objectives.value import TDLambdaEstimator
from torchrl.record.loggers import CSVLogger


class Lamp(gymnasium.Env):
    """Observes a double, takes 2 actions numbered from ``start``, says its end by the number ``end``."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float64)

    def __init__(self, start: int = 0, end: object = False, frameskip: int = 4) -> None:
        self.action_space, self.end, self.frameskip = gymnasium.spaces.Discrete(2, start=start), end, frameskip
        self.taken: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin."""
        return np.zeros(1), {}

    def step(self, action: int) -> tuple[np.ndarray, float, object, bool, dict]:
        """Note the action."""
        self.taken.append(int(action))
        return np.zeros(1), 0.0, self.end, False, {}


gymnasium.register("Lamp-v0", lambda **options: Lamp(**options))


def losses_sample_the_mode() -> bool:
    """``LossModule.forward`` runs under deterministic exploration, so what it samples is the most likely value."""

    class Loss(LossModule):
        def __init__(self) -> None:
            super().__init__()

        def forward(self, tensordict: TensorDict) -> object:
            return exploration_type()

    return Loss()(TensorDict()) is ExplorationType.DETERMINISTIC


def tanh_normal_moves_the_mean() -> bool:
    """``TanhNormal(tanh_loc=True)`` adds the bounds' midpoint before squashing: of 0 and 100 the mode is not 50."""
    bounds = {"low": torch.zeros(1), "high": torch.full((1,), 100.0)}
    mode = TanhNormal(torch.zeros(1), torch.ones(1), tanh_loc=True, **bounds).deterministic_sample
    return not torch.allclose(mode, torch.tensor(50.0))


def tanh_delta_moves_the_parameter() -> bool:
    """``TanhDelta`` adds the bounds' midpoint before squashing: between 0 and 100 all actions are 100."""
    low, high = torch.zeros(1), torch.full((1,), 100.0)
    return TanhDelta(torch.zeros(1), low=low, high=high).mode.item() > 99


def tanh_normal_reads_its_bounds() -> bool:
    """``TanhNormal`` reads numbers off its tensors, for which a GPU has to be waited for."""
    try:
        with FakeTensorMode():
            TanhNormal(torch.zeros(1), torch.ones(1), low=torch.zeros(1), high=torch.ones(1)).rsample()
    except Exception as error:
        return "DataDependent" in type(error).__name__
    return False


def one_hot_breaks_the_graph() -> bool:
    """``torch.compile(fullgraph=True)`` cannot trace ``OneHotCategorical``."""
    sample = torch.compile(lambda logits: OneHotCategorical(logits=logits).sample(), fullgraph=True, backend="eager")
    try:
        sample(torch.zeros(2, 3))
    except torch._dynamo.exc.Unsupported:
        return True
    return False


def buffers_save_their_whole_storage() -> bool:
    """``TensorDictReplayBuffer.state_dict`` holds the empty part of the storage too."""
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100))
    buffer.extend(TensorDict({"x": torch.zeros(5)}, [5]))
    return len(buffer.state_dict()["_storage"]["_storage"]["x"]) == 100


def estimators_stay_on_the_cpu() -> bool:
    """A value estimator that is made after a PPO or REINFORCE loss was moved keeps gamma and lambda on the CPU."""
    network = TensorDictModule(nn.Linear(1, 2), ["observation"], ["logits"])
    actor = ProbabilisticActor(network, ["logits"], distribution_class=OneHotCategorical)
    loss = ClipPPOLoss(actor, ValueOperator(nn.Linear(1, 1))).to("meta")
    loss.make_value_estimator(ValueEstimators.TDLambda)
    return loss.value_estimator.gamma.device.type == "cpu"


def td_lambda_of_zero_fails() -> bool:
    """The vectorised TD(lambda) raises IndexError where gamma * lambda is 0."""
    outcome = {name: torch.zeros(1, 3, 1, dtype=torch.bool) for name in ("done", "terminated")}
    following = {"reward": torch.zeros(1, 3, 1), "state_value": torch.zeros(1, 3, 1), **outcome}
    steps = TensorDict({"state_value": torch.zeros(1, 3, 1), "next": following}, [1, 3])
    try:
        TDLambdaEstimator(gamma=0.9, lmbda=0.0, value_network=None, vectorized=True)(steps)
    except IndexError:
        return True
    return False


def environments_swallow_compile() -> bool:
    """An environment's constructor never gets an argument named ``compile``."""

    class Env(EnvBase):
        def __init__(self, compile: bool = False) -> None:
            super().__init__()
            self.got = compile

        _reset = _step = _set_seed = lambda self, *_: None

    return not Env(compile=True).got


def ends_must_be_bool() -> bool:
    """An environment that says its end by a plain 1 fails."""
    try:
        GymWrapper(Lamp(end=1)).rollout(2)
    except AttributeError:
        return True
    return False


def discrete_actions_start_at_zero() -> bool:
    """One-hot actions ignore the ``start`` of a ``Discrete`` space."""
    lamp = Lamp(start=5)
    GymWrapper(lamp).rollout(3)
    return min(lamp.taken) < 5


def gym_env_sets_frameskip() -> bool:
    """``GymEnv`` gives ``frameskip=1`` to every constructor that takes it."""
    return GymEnv("Lamp-v0")._env.unwrapped.frameskip != 4


def resize_needs_torchvision() -> bool:
    """``Resize`` cannot work without torchvision."""
    try:
        Resize(8, 8)(TensorDict({"pixels": torch.zeros(3, 16, 16)}))
    except ImportError:
        return True
    return False


def image_tensors_are_floats() -> bool:
    """``ToTensorImage`` turns uint8 into floats, 4 times their size."""
    image = TensorDict({"pixels": torch.zeros(8, 8, 3, dtype=torch.uint8)})
    return ToTensorImage(in_keys=["pixels"])._call(image)["pixels"].dtype != torch.uint8


def hooks_miss_the_last_step() -> bool:
    """A rollout calls the hook after each step but the last one."""
    env, calls = GymWrapper(Lamp()), []
    env._post_step_mdp_hooks = lambda step, following: calls.append(1) or (step, following)
    env.rollout(3, break_when_any_done=False)
    return len(calls) == 2


def newest_windows_are_drawn_more_often() -> bool:
    """``Sequence(length)`` shifts what would pass the end back to it, so it draws the newest window too often."""
    torch.manual_seed(0)
    unit = Sequence(length=8, episode_boundary="stop", done_key=None)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(16), sampler=RandomSampler(), sample_unit=unit, batch_size=2000
    )
    buffer.extend(TensorDict({"x": torch.arange(16)}, [16]))
    first = buffer.sample()["x"].reshape(2000, -1)[:, 0]
    return (first == first.max()).float().mean().item() > 0.25  # 9 windows: 0.11 if all are equally likely


def sampling_runs_in_threads() -> bool:
    """``prefetch`` draws the indices in its threads, from the generator of whatever else draws meanwhile."""
    threads = []

    class Sampler(RandomSampler):
        def sample(self, *args: object) -> object:
            threads.append(threading.current_thread() is threading.main_thread())
            return super().sample(*args)

    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(9), sampler=Sampler(), batch_size=2, prefetch=2)
    buffer.extend(TensorDict({"x": torch.zeros(9)}, [9]))
    buffer.sample()
    return not all(threads)


def collectors_begin_new_episodes() -> bool:
    """``Collector.load_state_dict`` keeps the counters, and the environment starts anew."""

    def make() -> Collector:
        env = TransformedEnv(GymWrapper(Lamp()), StepCounter())
        policy = TensorDictModule(lambda _: torch.tensor([1, 0]), ["observation"], ["action"])
        return Collector(env, policy, frames_per_batch=3, total_frames=9)

    first, second = make(), make()
    next(iter(first))
    second.load_state_dict(first.state_dict())
    return next(iter(second))["step_count"][0].item() == 0


def behaviour_cloning_calls_twice() -> bool:
    """``BCLoss`` calls a stochastic actor twice, the second time with the action that the first call wrote."""
    seen = []

    def network(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        seen.append(action.clone())
        return observation

    body = TensorDictModule(network, ["observation", "action"], ["logits"])
    actor = ProbabilisticActor(body, ["logits"], distribution_class=OneHotCategorical)
    steps = TensorDict({"observation": torch.tensor([[9.0, 0.0]]), "action": torch.tensor([[0.0, 1.0]])}, [1])
    BCLoss(actor)(steps)
    return any(not torch.equal(action, steps["action"]) for action in seen)


def checkpoints_are_not_checked() -> bool:
    """A checkpoint with a changed byte is loaded without a word."""
    with tempfile.TemporaryDirectory() as folder:
        layer = nn.Linear(40, 40)
        Checkpoint(layer=layer).save(Path(folder) / "saved")
        file = max((path for path in Path(folder).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        try:
            Checkpoint(layer=layer).load(Path(folder) / "saved")
        except Exception:
            return False
    return True


def csv_loggers_stay_open() -> bool:
    """``CSVLogger.shutdown`` leaves its files open."""
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger("run", log_dir=folder)
        logger.log_scalar("x", 1.0, step=0)
        logger.shutdown()
        files = list(logger.experiment.files.values())
        still = any(not file.closed for file in files)
        for file in files:
            file.close()
    return still


def minari_datasets_are_zeros() -> bool:
    """``MinariExperienceReplay`` returns zeros for a local dataset."""
    import minari
    from minari.data_collector import EpisodeBuffer
    from torchrl.data.datasets import MinariExperienceReplay

    patch = {"observation_space": gymnasium.spaces.Box(-9, 9, (1,)), "action_space": gymnasium.spaces.Discrete(2)}
    with tempfile.TemporaryDirectory() as folder:
        patched = {"MINARI_DATASETS_PATH": str(Path(folder) / "minari")}
        with _environment(patched):
            episode = {"observations": np.ones((4, 1), np.float32), "actions": np.ones(3, int), "rewards": np.ones(3)}
            ends = {"terminations": np.array([0, 0, 1], bool), "truncations": np.zeros(3, bool)}
            buffers = [EpisodeBuffer(id=number, infos={}, **episode, **ends) for number in range(2)]
            minari.create_dataset_from_buffers("faults/ones-v0", buffers, **patch)
            replay = MinariExperienceReplay(
                "faults/ones-v0", 2, root=Path(folder) / "torchrl", load_from_local_minari=True
            )
        return not replay[:]["observation"].any()


def _environment(values: dict[str, str]) -> object:
    from unittest.mock import patch

    return patch.dict("os.environ", values)


def rewards_to_go_take_quadratic_time() -> bool:
    """``reward2go`` is a convolution: 8 times the steps of one episode take more than 24 times as long."""
    from timeit import timeit

    from torchrl.objectives.value.functional import reward2go

    def seconds(length: int) -> float:
        done = torch.zeros(1, length, 1, dtype=torch.bool)
        done[:, -1] = True
        return min(timeit(lambda: reward2go(torch.ones(1, length, 1), done, gamma=1.0), number=1) for _ in range(3))

    return seconds(4000) > 24 * seconds(500)


def names_are_private() -> bool:
    """What is read here has no public name: a writer's cursor, a collector's next step, a loss's masks."""
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(9))
    return hasattr(buffer._writer, "_cursor") and not hasattr(buffer.writer, "cursor") and not hasattr(
        LossModule, "loss_mask_keys"
    )  # fmt: skip


def imagined_envs_want_a_real_one() -> bool:
    """``ImaginedEnv`` cannot be made without an environment to copy."""
    from torchrl.envs.model_based import ImaginedEnv

    module = TensorDictModule(nn.Identity(), ["observation"], ["observation"])
    try:
        ImaginedEnv(module, None)
    except Exception:
        return True
    return False


def manifests_raise_what_comes() -> bool:
    """A manifest that holds something else than an object ends in an AttributeError or TypeError."""
    from torchrl.checkpoint import CheckpointError

    with tempfile.TemporaryDirectory() as folder:
        layer = nn.Linear(2, 2)
        Checkpoint(layer=layer).save(Path(folder) / "saved")
        (manifest,) = Path(folder).rglob("manifest.json")
        manifest.write_text(json.dumps([1]))
        try:
            Checkpoint(layer=layer).load(Path(folder) / "saved")
        except CheckpointError:
            return False
        except (AttributeError, TypeError):
            return True
    return False


if __name__ == "__main__":
    main(dict(globals()))
