"""Environments that a user builds: any image entry, either kind of action, and errors that name what is missing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, Unbounded
from torchrl.envs import (
    EnvBase,
    GymEnv,
    RenameTransform,
    RewardSum,
    SerialEnv,
    StepCounter,
    ToTensorImage,
    TransformedEnv,
    check_env_specs,
)

from torchrl_glam.envs import adapt_env
from torchrl_glam.errors import UsageError

KEYS = {"pixels", "reward", "life_loss", "terminated", "done", "episode_reward", "step_count", "is_init"}
LENGTH = 5


class Gradient(EnvBase):
    """A TorchRL environment whose image [h w c] grows along its axes, and which remembers its last action."""

    def __init__(
        self,
        image: Any = None,
        action: Any = None,
        key: NestedKey = "pixels",
        names: tuple[NestedKey, NestedKey, NestedKey] = ("action", "reward", "done"),
        batch_size: tuple[int, ...] = (),
    ) -> None:
        super().__init__(batch_size=batch_size)
        self.image = gradient() if image is None else image
        self._key, (self._action, self._reward, self._done) = key, names
        shape, dtype = (*batch_size, *self.image.shape), self.image.dtype
        leaf = Bounded(0, 1, shape, dtype=dtype) if dtype.is_floating_point else Unbounded(shape, dtype=dtype)
        self.observation_spec = Composite({key: leaf}, shape=batch_size)
        action = OneHot(3) if action is None else action
        self.full_action_spec = Composite({self._action: action.expand(*batch_size, *action.shape)}, shape=batch_size)
        self.full_reward_spec = Composite({self._reward: Unbounded((*batch_size, 1))}, shape=batch_size)
        flag = Categorical(2, shape=(*batch_size, 1), dtype=torch.bool)
        self.full_done_spec = Composite({self._done: flag}, shape=batch_size)

    def _observe(self, done: bool) -> TensorDict:
        flag = torch.full((*self.batch_size, 1), done)
        image = self.image.expand(*self.batch_size, *self.image.shape)
        entries = {self._key: image, self._done: flag}
        if isinstance(self._done, str):
            entries["terminated"] = flag.clone()
        return TensorDict({}, self.batch_size).update(entries)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        self.step_number = 0
        return self._observe(False)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.last_action, self.step_number = tensordict[self._action].clone(), self.step_number + 1
        return self._observe(self.step_number == LENGTH).set(self._reward, torch.ones(*self.batch_size, 1))

    def _set_seed(self, seed: int | None) -> None:
        pass


def gradient(height: int = 100, width: int = 80) -> Tensor:
    """An image [h w 3] in which no two axes and no two colours are alike."""
    down, right = np.mgrid[:height, :width]
    image = np.stack([down * 2, right * 3, (down + right) % 256], -1)
    return torch.from_numpy(image.astype(np.uint8))


def resized(image: Tensor, size: int = 64) -> Tensor:
    return torch.from_numpy(cv2.resize(image.numpy(), (size, size), interpolation=cv2.INTER_AREA))


IMAGES = {
    "hwc": gradient(),
    "chw": gradient().movedim(-1, 0),
    "floats hwc": gradient() / 255,
    "doubles chw": gradient().movedim(-1, 0).double() / 255,
    "small": gradient(7, 7),
    "of the right size": gradient(64, 64),
}
GREY = {"hw": gradient()[..., 0], "hw1": gradient()[..., :1], "1hw": gradient()[..., 0][None]}


@pytest.mark.parametrize("batch_size", [(), (2,)])
@pytest.mark.parametrize("key", ["pixels", "observation", ("camera", "front", "rgb")])
@pytest.mark.parametrize("kind", [*IMAGES, *GREY])
def test_any_image_under_any_key_becomes_pixels(kind: str, key: NestedKey, batch_size: tuple[int, ...]) -> None:
    image = IMAGES.get(kind, GREY.get(kind))
    env = adapt_env(Gradient(image, key=key, batch_size=batch_size), pixels_key=key)
    check_env_specs(env)
    records = env.rollout(3)
    assert set(records["next"].keys()) - {"camera"} == KEYS
    if kind in GREY:
        expected = resized(gradient()[..., :1].expand(-1, -1, 3).contiguous())
    else:
        expected = resized({"small": gradient(7, 7), "of the right size": gradient(64, 64)}.get(kind, gradient()))
    assert records["pixels"].dtype == torch.uint8
    assert (records["pixels"] == expected).all()
    assert (records["next", "pixels"] == expected).all()


def test_image_size_is_honoured_and_memory_not_shared() -> None:
    base = Gradient(gradient(32, 32))
    pixels = adapt_env(base, image_size=32).reset()["pixels"]
    base.image.zero_()
    assert torch.equal(pixels, gradient(32, 32))


@pytest.mark.parametrize("batch_size", [(), (2,)])
def test_episodes_are_counted_and_ended(batch_size: tuple[int, ...]) -> None:
    records = adapt_env(Gradient(batch_size=batch_size)).rollout(12, break_when_any_done=False)
    records = records.reshape(-1, 12)[-1]
    ends = [step % LENGTH == LENGTH - 1 for step in range(12)]
    assert records["next", "life_loss"].flatten().tolist() == ends
    assert records["next", "terminated"].flatten().tolist() == ends
    assert records["step_count"].flatten().tolist() == [step % LENGTH for step in range(12)]
    assert records["next", "episode_reward"].flatten().tolist() == [step % LENGTH + 1 for step in range(12)]
    assert records["is_init"].flatten().tolist() == [step % LENGTH == 0 for step in range(12)]


@pytest.mark.parametrize("batch_size", [(), (2,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounded_actions_are_rescaled(dtype: torch.dtype, batch_size: tuple[int, ...]) -> None:
    low, high = torch.tensor([-2.0, 10.0], dtype=dtype), torch.tensor([2.0, 30.0], dtype=dtype)
    env = adapt_env(Gradient(action=Bounded(low, high), batch_size=batch_size))
    check_env_specs(env)
    spec = env.action_spec_unbatched
    assert (spec.shape, spec.dtype) == ((2,), torch.float32)
    assert (spec.space.low == -1).all()
    assert (spec.space.high == 1).all()
    for action, expected in ((-1.0, low), (1.0, high), (0.0, (low + high) / 2)):
        env.step(env.reset().set("action", torch.full((*batch_size, 2), action)))
        assert torch.equal(env.base_env.last_action, expected.expand(*batch_size, 2))


def test_what_the_environment_has_already_is_kept() -> None:
    base = TransformedEnv(Gradient(), RewardSum()).append_transform(StepCounter(max_steps=3))
    env = adapt_env(base)
    check_env_specs(env)
    records = env.rollout(7, break_when_any_done=False)
    assert records["next", "truncated"].flatten().tolist() == [False, False, True] * 2 + [False]
    assert not records["next", "life_loss"].any()
    assert records["next", "episode_reward"].flatten().tolist() == [1, 2, 3, 1, 2, 3, 1]


def test_gymnasium_environments_of_torchrl_work() -> None:
    pytest.importorskip("pygame")
    env = adapt_env(GymEnv("CartPole-v1", from_pixels=True, pixels_only=False))
    check_env_specs(env)
    records = env.rollout(3)
    assert records["pixels"].shape == (3, 64, 64, 3)
    assert set(records["next"].keys()) == {*KEYS, "truncated", "observation"}


def test_environments_in_series_and_other_transforms_work() -> None:
    base = SerialEnv(2, lambda: TransformedEnv(Gradient(), ToTensorImage(in_keys=["pixels"])))
    env = adapt_env(base)
    check_env_specs(env)
    assert (env.rollout(3)["pixels"] == resized(gradient())).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": torch.zeros(4)}, r"'pixels' is torch.float32 \[4\]: an image of uint8"),
        ({"image": torch.zeros(8, 8, 4, dtype=torch.uint8)}, r"'pixels' is torch.uint8 \[8, 8, 4\]: an image"),
        ({"image": torch.zeros(8, 8, 3, dtype=torch.int64)}, r"'pixels' is torch.int64 \[8, 8, 3\]: an image"),
        ({"action": Categorical(3)}, "actions are numbers: make it with categorical_action_encoding=False"),
        ({"action": OneHot(1)}, "one action only"),
        (
            {"action": MultiOneHot([2, 2]).expand(3, 4)},
            r"actions are MultiOneHot torch.bool \[3, 4\]: one-hot ones are wanted",
        ),
        ({"action": MultiCategorical([2, 2])}, "actions are numbers: make it with categorical_action_encoding=False"),
        ({"action": Binary(3)}, "actions are Binary"),
        ({"action": Unbounded(3)}, "a bounded vector of floats"),
        ({"action": Bounded(torch.zeros(2), torch.tensor([1.0, torch.inf]))}, "a bounded vector of floats"),
        ({"action": Bounded(0, 3, (2,), dtype=torch.int64)}, "a bounded vector of floats"),
        ({"action": Bounded(0, 3, (2, 2))}, "a bounded vector of floats"),
        ({"names": (("agent", "action"), "reward", "done")}, r"actions are \('agent', 'action'\), only 'action'"),
        ({"names": ("action", ("agent", "reward"), "done")}, r"no 'reward', but \('agent', 'reward'\): rename"),
        ({"names": ("action", "reward", ("agent", "done"))}, r"no 'terminated', but \('agent', 'done'\)"),
    ],
    ids=str,
)
def test_what_is_missing_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        adapt_env(Gradient(**options))
    assert "\n" not in str(caught.value)


def test_floats_beyond_one_are_refused() -> None:
    env = Gradient(gradient().float())
    env.observation_spec = Composite(pixels=Bounded(0, 255, (100, 80, 3)))
    with pytest.raises(UsageError, match="floats from 0 to 1"):
        adapt_env(env)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (gradient().float(), "has floats from 0 to 237, and from 0 to 1 is wanted: make uint8 of"),
        (gradient() / 127.5 - 1, "has floats from -1 to 0.858824, and"),
        (gradient() / 255 + torch.nan, "has a number that is not finite, and"),
    ],
)
def test_floats_of_another_range_are_refused_where_the_spec_has_no_bounds(image: torch.Tensor, line: str) -> None:
    """They would become white, or lose what is below 0, without a word."""
    env = Gradient(image)
    env.observation_spec = Composite(pixels=Unbounded((100, 80, 3)))
    env = adapt_env(env)
    with pytest.raises(UsageError, match=line):
        env.reset()


def test_floats_that_are_rounded_beyond_one_are_accepted() -> None:
    env = Gradient(torch.full((100, 80, 3), 1.001))
    env.observation_spec = Composite(pixels=Unbounded((100, 80, 3)))
    pixels = adapt_env(env).reset()["pixels"]
    assert (pixels == 255).all()


def test_renamed_keys_are_accepted() -> None:
    base = Gradient(names=(("agent", "action"), ("agent", "reward"), "done"))
    renamed = RenameTransform([("agent", "reward")], ["reward"], [("agent", "action")], ["action"])
    env = adapt_env(TransformedEnv(base, renamed))
    assert env.rollout(3)["next", "episode_reward"].flatten().tolist() == [1, 2, 3]
