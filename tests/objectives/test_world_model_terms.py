"""Terms of the world model's loss, and one of the user's beside them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchrl_glam.modules import LMamba
from torchrl_glam.objectives import GLAMModelLoss, total_loss
from torchrl_glam.objectives.functional import focal_loss
from torchrl_glam.objectives.term import Term
from torchrl_glam.objectives.world_model_terms import EventTerm
from torchrl_glam.training import WorldModelUpdate


class ScoreTerm(Term):
    """Somebody's: a head of its own predicts the sum of the rewards so far, and how far it is off is shown."""

    metrics = ("score_error",)

    def __init__(self, width, weight=1.0):
        super().__init__(score=weight)
        self.head = nn.Linear(width, 1)

    def forward(self, world_model, outputs, targets, first):
        error = self.head(outputs["belief"])[:, first:] - targets["reward"].cumsum(1)[:, first:]
        return {"score": error.square().mean(), "score_error": error.abs().mean()}


def test_a_term_of_ones_own_is_trained_weighted_and_shown(make_world_model, make_batch):
    world_model = make_world_model()
    loss = GLAMModelLoss(world_model, more_terms=[ScoreTerm(8, weight=0.5)])
    assert loss.out_keys[-2:] == ["kl_variation", "score_error"]
    assert "loss_score" in loss.out_keys
    torch.manual_seed(0)
    terms = loss(make_batch())
    assert set(terms.keys()) == set(loss.out_keys)
    assert terms["loss_score"].requires_grad
    assert not terms["score_error"].requires_grad
    heavier = GLAMModelLoss(world_model, more_terms=[ScoreTerm(8, weight=2.0)])
    heavier.terms[-1].load_state_dict(loss.terms[-1].state_dict())
    torch.manual_seed(0)
    again = heavier(make_batch())
    torch.testing.assert_close(again["loss_score"], 4 * terms["loss_score"])
    assert again["score_error"] == terms["score_error"]
    others = [key for key in loss.out_keys if key.startswith("loss_") and key != "loss_score"]
    assert all(again[key] == terms[key] for key in others)
    torch.testing.assert_close(total_loss(terms), sum(terms[key] for key in [*others, "loss_score"]))


def test_its_layers_are_saved_and_move(make_world_model, make_batch):
    loss = GLAMModelLoss(make_world_model(), more_terms=[ScoreTerm(8)])
    update = WorldModelUpdate(loss, torch.optim.Adam(loss.parameters(), lr=1e-2), 1000.0)
    before = loss.terms[-1].head.weight.clone()
    metrics, _ = update(make_batch())
    assert {"loss_score", "score_error", "grad_norm"} <= set(metrics.keys())
    assert not torch.equal(loss.terms[-1].head.weight, before)
    assert any(torch.equal(value, loss.terms[-1].head.weight) for value in update.state_dict()["loss"].values())


def test_a_weight_of_zero_leaves_the_loss_out(make_world_model, make_batch):
    loss = GLAMModelLoss(make_world_model(), more_terms=[ScoreTerm(8, weight=0.0)])
    assert "loss_score" not in loss.out_keys
    assert set(loss(make_batch()).keys()) == set(loss.out_keys)


@pytest.mark.parametrize(("dynamics", "there"), [(None, True), (LMamba(8, d_state=3), False)], ids=["glam", "lmamba"])
def test_the_variation_term_is_there_if_the_backbone_has_one(make_world_model, make_batch, dynamics, there):
    loss = GLAMModelLoss(make_world_model(dynamics))
    assert ("loss_variation" in loss.out_keys) == ("loss_variation" in loss(make_batch())) == there
    if there:
        assert loss.terms[-1].weights == {"variation": 0.1}


def test_events_are_the_cells_that_the_next_frame_changes(make_world_model):
    """Beliefs at t are compared with what changes from frame t to t + 1, anywhere in a cell and in any channel."""
    world_model = make_world_model()
    term, (height, width, _) = EventTerm(world_model, 1.0, cell=4), world_model.image_shape
    frames = torch.zeros(1, 6, 3, height, width)
    frames[0, 4:, 1, 5, 2] = 1.0  # changes from 3 to 4, in the second cell of the first column
    cells = torch.zeros(2, height // 4, width // 4, dtype=torch.bool)
    cells[0, 1, 0] = True  # beliefs 3 and 4 have a following frame
    term.head.weight.data.zero_()
    term.head.bias.data.uniform_(-1, 1)
    outputs = {"frames": frames, "belief": torch.randn(1, 6, 8)}
    came = term(world_model, outputs, {}, 3)["loss_event"]
    wanted = focal_loss(term.head.bias.expand(2, -1), cells.flatten(1))
    torch.testing.assert_close(came, wanted)


def test_event_loss_trains_the_beliefs(make_world_model, make_batch):
    loss = GLAMModelLoss(make_world_model(), event_coeff=0.5)
    assert "loss_event" in loss.out_keys
    loss(make_batch())["loss_event"].backward()
    assert all(weight.grad is not None for weight in loss.world_model.dynamics.parameters())
