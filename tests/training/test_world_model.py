"""The update of the world model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training import (
    WorldModelUpdate,
    check_finite,
)


def statistics(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers() if "running" in name or "tracked" in name}


@pytest.fixture
def trained(make_world_model):
    """A world model, its loss and its update."""
    world_model = make_world_model()
    loss = GLAMModelLoss(world_model)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    return world_model, loss, WorldModelUpdate(loss, optimizer, 1000.0)


def test_batch_norm_learns_in_updates_only(trained, make_batch):
    world_model, loss, update = trained
    before = statistics(world_model)
    assert len(before) == 3 * 4
    loss(make_batch())
    world_model.encode(make_batch()["pixels"])
    assert all(torch.equal(value, before[name]) for name, value in statistics(world_model).items())
    modes = []
    world_model.encoder.convolutions.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for number in (1, 2):
        update(make_batch())
        after = statistics(world_model)
        assert not any(torch.equal(value, before[name]) for name, value in after.items())
        assert after["encoder.convolutions.1.num_batches_tracked"] == number
        assert not any(module.training for module in loss.modules())
        assert not any(module.training for module in world_model.modules())
        before = after
    assert modes == [True, True]


def test_batch_norm_statistics_are_of_the_batch(trained, make_batch):
    world_model, _, update = trained
    batch = make_batch()
    frames = batch["pixels"].flatten(0, 1).permute(0, 3, 1, 2) / 255
    convolution = world_model.encoder.convolutions[0]
    means = nn.functional.conv2d(frames, convolution.weight, stride=2, padding=1).mean((0, 2, 3)).detach()
    update(batch)
    torch.testing.assert_close(world_model.encoder.convolutions[1].running_mean, 0.1 * means)


def test_metrics_are_detached_scalars_on_the_device(trained, make_batch):
    _, loss, update = trained
    metrics, _ = update(make_batch())
    assert set(loss.out_keys) | {"grad_norm", "kl_dynamics", "kl_variation"} <= set(metrics.keys())
    for key, value in metrics.items():
        assert value.shape == (), key
        assert not value.requires_grad, key
        assert value.device.type == "cpu", key
    check_finite(metrics)


def test_updates_lower_the_loss(trained, make_batch):
    _, _, update = trained
    torch.manual_seed(0)
    batch = make_batch()
    history = [update(batch)[0] for _ in range(60)]
    for key in ("loss_reconstruction", "loss_reward", "loss_termination"):
        assert history[-1][key] < 0.6 * history[0][key], key


def test_the_update_steps_on_the_sum_of_the_terms(make_world_model, make_batch):
    """With SGD of rate 1 the parameters move by the gradient of all six terms."""
    world_model = make_world_model()
    loss = GLAMModelLoss(world_model, free_nats=0.0, variation_free_nats=0.0)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.train()
    torch.manual_seed(0)
    terms = loss(make_batch())
    gradients = torch.autograd.grad(sum(terms[key] for key in loss.out_keys), list(loss.parameters()))
    update = WorldModelUpdate(loss, torch.optim.SGD(loss.parameters(), lr=1.0), 1e9)
    torch.manual_seed(0)
    metrics, _ = update(make_batch())
    for old, new, gradient in zip(before, loss.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new, gradient, rtol=1e-3, atol=1e-4)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    torch.testing.assert_close(metrics["grad_norm"], norm, rtol=1e-4, atol=1e-4)
