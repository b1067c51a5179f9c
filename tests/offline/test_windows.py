"""Windows of a dataset against a hand-written oracle: each record of the data names its episode and step."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import OneHot

from torchrl_glam.errors import UsageError
from torchrl_glam.offline.dataset import OfflineDataset
from torchrl_glam.offline.windows import make_windows

LENGTHS = (4, 7, 1, 5)
STEPS = [(episode, step) for episode, length in enumerate(LENGTHS) for step in range(length)]


def record_dataset(pixels: bool = False, stack: int = 1) -> OfflineDataset:
    """Return a dataset whose every entry names episode and step."""
    counted = torch.tensor(STEPS)
    observation = counted.float()
    if pixels:
        observation = (16 * counted[:, 0] + counted[:, 1]).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 8, 8, 3)
    records = TensorDict(
        {
            "observation": observation.contiguous(),
            "action": torch.nn.functional.one_hot(counted[:, 1], 8).float(),
            "return_to_go": counted[:, :1] + counted[:, 1:] / 8,
            "time_step": counted[:, 1:],
            "episode": counted[:, 0],
            "next": {
                "reward": counted.sum(1, keepdim=True).float(),
                "done": torch.tensor([[step == LENGTHS[episode] - 1] for episode, step in STEPS]),
            },
        },
        [len(STEPS)],
    )
    shape = torch.Size([8, 8, 3 * stack]) if pixels else observation.shape[1:]
    return OfflineDataset("tests/counting-v0", None, records, shape, OneHot(8), stack=stack)


@pytest.mark.parametrize("context", [1, 3, 20])
@pytest.mark.parametrize("pixels", [False, True])
def test_a_window_is_an_episodes_next_steps_padded_at_the_end(context, pixels):
    dataset = record_dataset(pixels)
    torch.manual_seed(0)
    windows = make_windows(dataset, batch_size=64, context=context).sample()
    assert windows.shape == (64, context)
    mask = windows["collector", "mask"]
    assert mask.shape == (64, context, 1)
    assert mask.dtype == torch.bool
    seen = set()
    for window in windows:
        episode, start = window["episode"][0].item(), window["time_step"][0].item()
        seen.add((episode, start))
        real = min(context, LENGTHS[episode] - start)
        assert window["collector", "mask"].flatten().tolist() == [True] * real + [False] * (context - real)
        wanted = [STEPS.index((episode, start + step)) for step in range(real)]
        wanted += [wanted[-1]] * (context - real)
        assert window["index"].tolist() == wanted
        read = window.select(*dataset.records.keys(include_nested=True, leaves_only=True))
        assert (read == dataset.records[wanted]).all()
    assert seen == set(STEPS)  # 64 draws of 17


def test_windows_have_the_records_types_and_shapes():
    dataset = record_dataset()
    windows = make_windows(dataset, batch_size=2, context=5).sample()
    for key in dataset.records.keys(include_nested=True, leaves_only=True):
        assert windows[key].shape == (2, 5, *dataset.records[key].shape[1:])
        assert windows[key].dtype == dataset.records[key].dtype


def test_each_step_is_equally_likely_to_be_the_first():
    torch.manual_seed(0)
    draws = 34_000
    first = make_windows(record_dataset(), draws, 3).sample()["index"][:, 0]
    counts = first.bincount(minlength=len(STEPS))
    expected = draws / len(STEPS)
    assert (counts - expected).abs().max() < 4.5 * expected**0.5


def test_draws_follow_torchs_generator():
    windows = make_windows(record_dataset(), 16, 4)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = windows.sample(), windows.sample()
    assert not torch.equal(first["index"], second["index"])
    torch.set_rng_state(state)
    again = make_windows(record_dataset(), 16, 4)  # as a resumed run makes them
    assert (again.sample() == first).all()
    assert (again.sample() == second).all()


def test_a_window_may_be_changed_without_harm():
    dataset = record_dataset()
    before = dataset.records.clone()
    windows = make_windows(dataset, 8, 3)
    windows.sample().zero_()
    assert (dataset.records == before).all()


@pytest.mark.parametrize(("batch_size", "context", "name"), [(0, 3, "batch_size=0"), (4, 0, "context=0")])
def test_sizes_start_at_one(batch_size, context, name):
    with pytest.raises(UsageError, match=f"^{name}: give 1 or more$"):
        make_windows(record_dataset(), batch_size, context)


def test_frames_are_stacked_within_their_episode():
    dataset = record_dataset(pixels=True, stack=4)
    assert dataset.frame == (8, 8, 3)
    torch.manual_seed(0)
    windows = make_windows(dataset, batch_size=64, context=3).sample()
    observation = windows["observation"]
    assert observation.shape == (64, 3, *dataset.observation_shape)
    assert observation.dtype == torch.uint8
    steps = windows["time_step"].flatten(0, 1)
    ages = torch.tensor([3, 2, 1, 0])  # the newest last; the first frame of the episode stands for those before it
    wanted = 16 * windows["episode"].reshape(-1, 1) + (steps - ages).clamp_min(0)
    seen = observation.flatten(0, 1).unflatten(-1, (4, 3))
    assert (seen == wanted[:, None, None, :, None]).all()
