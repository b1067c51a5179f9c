"""Pixels that weigh more in the reconstruction."""

from __future__ import annotations

import copy

import pytest
import torch

from torchrl_glam.errors import UsageError
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.objectives.reconstruction_terms import WeightedReconstructionTerm
from torchrl_glam.training import WorldModelUpdate

SHAPE = (1, 3, 1)  # height, width, channels


def frames_of(*steps):
    return torch.tensor(steps).reshape(1, len(steps), 1, 1, 3)


def test_what_moves_weighs_more():
    weight = WeightedReconstructionTerm(SHAPE, motion=30.0).weigh(frames_of([0.5, 0.5, 0.5], [0.5, 0.9, 0.5]))
    assert weight.flatten().tolist() == [1, 31, 1, 1, 31, 1]


def test_what_differs_from_the_mean_frame_weighs_more_even_if_it_stands_still():
    term = WeightedReconstructionTerm(SHAPE, foreground=20.0)
    for _ in range(3):
        term.weigh(frames_of([0.5, 0.5, 0.5]))
    still = frames_of([0.9, 0.5, 0.5], [0.9, 0.5, 0.5])
    assert term.eval().weigh(still).flatten().tolist() == 2 * [21, 1, 1]
    assert WeightedReconstructionTerm(SHAPE, motion=30.0).weigh(still).eq(1).all()


def test_both_weights_add_up():
    term = WeightedReconstructionTerm(SHAPE, motion=30.0, foreground=20.0, threshold=0.3).eval()
    assert term.weigh(frames_of([0.0, 0.2, 0.5], [0.9, 0.2, 0.5])).flatten().tolist() == [31, 1, 21, 51, 1, 21]


def test_the_background_is_the_mean_of_first_frames_and_later_follows_slowly():
    term = WeightedReconstructionTerm(SHAPE, foreground=20.0)
    for value in (0.2, 0.4, 0.9):
        term.weigh(torch.cat([frames_of(3 * [value + offset], 3 * [0.0]) for offset in (-0.1, 0.1)]))
    torch.testing.assert_close(term.background, torch.full((1, 1, 3), 0.5))
    term.eval().weigh(frames_of(3 * [0.0]))
    torch.testing.assert_close(term.background, torch.full((1, 1, 3), 0.5), msg="only training changes it")
    term.train().batches.fill_(10_000)
    term.weigh(frames_of(3 * [1.0]))
    torch.testing.assert_close(term.background, torch.full((1, 1, 3), 0.505))


def test_the_background_is_saved(make_world_model, make_batch):
    def make():
        loss = GLAMModelLoss(copy.deepcopy(world_model), foreground_weight=20.0)
        return loss.terms[0], WorldModelUpdate(loss, torch.optim.Adam(loss.parameters(), lr=1e-3), 1000.0)

    world_model = make_world_model()
    (term, update), (other, resumed) = make(), make()
    update(make_batch())
    resumed.load_state_dict(update.state_dict())
    assert term.background.abs().max() > 0
    assert torch.equal(other.background, term.background)
    assert other.batches == term.batches == 1


@pytest.mark.parametrize("option", ["motion_weight", "foreground_weight"])
def test_without_pixels_there_is_nothing_to_weigh(make_world_model, option):
    world_model = make_world_model(image_shape=None, vector_size=3)
    with pytest.raises(UsageError, match=rf"{option} is 30.0, and no pixels are observed: leave it out"):
        GLAMModelLoss(world_model, **{option: 30.0})
