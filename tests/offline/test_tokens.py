"""Tokens of a step: their order, their time embeddings, their scales; pixels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.support.backbones import layer_norm, prepare
from tests.support.decisions import ACTION, OBSERVATION, make_windows
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.tokens import DecisionTokens, ObservationEncoder

MEAN = torch.linspace(-1, 1, OBSERVATION)
STD = torch.linspace(0.5, 2, OBSERVATION)


def make_tokens(**options):
    torch.manual_seed(0)
    tokens = prepare(DecisionTokens((OBSERVATION,), ACTION, 8, **options))
    tokens.set_statistics(MEAN, STD, 40.0)
    return tokens


def embed(tokens, windows):
    return tokens(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step")))


def linear(layer, inputs):
    return inputs @ layer.weight.T + layer.bias


@pytest.mark.parametrize("max_steps", [200, 0])
def test_tokens_are_the_formula_return_state_action_in_turns(max_steps):
    tokens, windows = make_tokens(max_steps=max_steps), make_windows(2, 7)
    embedded = embed(tokens, windows)
    assert embedded.shape == (2, 21, 8)
    time = tokens.time.weight[windows["time_step"].squeeze(-1)] if max_steps else 0
    mean, std = MEAN.double(), STD.double()
    parts = [
        linear(tokens.return_to_go, windows["return_to_go"] / 40),
        linear(tokens.observation.linear, (windows["observation"] - mean) / std),
        linear(tokens.action, windows["action"]),
    ]
    for index, part in enumerate(parts):
        torch.testing.assert_close(embedded[:, index::3], layer_norm(part + time, tokens.norm))


def test_steps_beyond_the_last_count_as_the_last():
    tokens, windows = make_tokens(max_steps=4), make_windows(1, 2)
    times = [0, 3, 4, 10_000]
    found = [embed(tokens, windows.replace(time_step=torch.full((1, 2, 1), time))) for time in times]
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


def test_a_single_step_is_embedded_as_in_a_window():
    tokens, windows = make_tokens(), make_windows(2, 3)
    embedded, step = embed(tokens, windows), windows[:, 1]
    pair = tokens.embed_observed(step["observation"], step["return_to_go"], step["time_step"])
    action = tokens.embed_action(step["action"], step["time_step"])
    torch.testing.assert_close(torch.stack([*pair, action], 1), embedded[:, 3:6])


def test_one_hot_actions_and_observations_of_environments_come_in_any_dtype():
    tokens, windows = make_tokens(), make_windows(2, 3, discrete=True)
    as_they_come = windows.clone()
    as_they_come["action"] = windows["action"].long()
    assert torch.equal(embed(tokens, as_they_come), embed(tokens, windows))
    assert embed(tokens, as_they_come.float()).dtype == torch.float64


def test_statistics_are_saved_and_taken_in_place():
    tokens = DecisionTokens((OBSERVATION,), ACTION, 8)
    before = tokens.observation.mean, tokens.return_scale
    tokens.set_statistics(MEAN, STD, 40.0)
    assert tokens.observation.mean is before[0]
    assert tokens.return_scale is before[1]
    other = DecisionTokens((OBSERVATION,), ACTION, 8)
    other.load_state_dict(tokens.state_dict())
    assert torch.equal(other.observation.mean, MEAN)
    assert torch.equal(other.observation.std, STD)
    assert other.return_scale.item() == 40.0


def test_a_feature_that_never_changes_is_only_centred():
    encoder = ObservationEncoder((2,), 3)
    encoder.set_statistics(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
    assert encoder.std.tolist() == [1.0, 4.0]


def test_dropout_only_in_training():
    tokens, windows = make_tokens(dropout=0.5), make_windows(20, 10)
    assert torch.equal(embed(tokens, windows), embed(tokens, windows))
    tokens.train()
    assert (embed(tokens, windows) == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("shape", "features"), [((64, 64, 3), 1024), ((84, 84, 4), 3136), ((36, 44, 1), 2 * 64)])
def test_pixels_go_through_the_convolutions_of_dqn(shape, features):
    encoder = prepare(ObservationEncoder(shape, 8))
    assert encoder.linear.in_features == features
    pixels = torch.randint(256, (2, 3, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    hidden = pixels.flatten(0, 1).permute(0, 3, 1, 2).double() / 255
    convolutions = [layer for layer in encoder.convolutions if isinstance(layer, torch.nn.Conv2d)]
    for layer, stride in zip(convolutions, (4, 2, 1), strict=True):
        hidden = functional.conv2d(hidden, layer.weight, layer.bias, stride=stride).relu()
    wanted = linear(encoder.linear, hidden.flatten(1)).unflatten(0, (2, 3))
    torch.testing.assert_close(encoder(pixels), wanted)
    torch.testing.assert_close(encoder(pixels[0, 0]), wanted[0, 0])
    encoder.set_statistics(None, None)
    torch.testing.assert_close(encoder(pixels), wanted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ObservationEncoder((), 8), r"observation_shape \(\): give \(size,\) of vectors or \(h, w, c\)"),
        (lambda: ObservationEncoder((35, 64, 3), 8), "give pixels at least 36 high and wide"),
        (lambda: DecisionTokens((3,), 2, 8, max_steps=-1), "max_steps=-1: give 1 or more, or 0 for no time embedding"),
        (lambda: make_tokens().set_statistics(MEAN, STD, 0.0), "return_scale=0.0: returns are divided by it"),
        (
            lambda: make_tokens().set_statistics(MEAN[:2], STD, 1.0),
            r"mean of observations is \[2\]: give a tensor \[5\]",
        ),
        (lambda: make_tokens().set_statistics(MEAN, None, 1.0), r"std of observations is None: give a tensor \[5\]"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()
