"""Actors: windows and single steps agree, nothing of an action or of the future is known, shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.backbones import assert_same_memory, prepare
from tests.support.decisions import (
    ACTION,
    ACTORS,
    CONTEXT,
    OBSERVATION,
    make_network,
    make_windows,
    run,
    unroll,
)
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import MambaDynamics
from torchrl_glam.offline import DMambaActor, GLoMaStack, MambaDMActor
from torchrl_glam.offline.base import SequenceActor

every_model = pytest.mark.parametrize("name", ACTORS)
every_actor = pytest.mark.parametrize("name", [*ACTORS, "bc"])


@every_actor
@pytest.mark.parametrize("time", [1, 3, CONTEXT])
def test_steps_give_the_outputs_of_windows(name, time):
    network, windows = make_network(name), make_windows(3, time)
    outputs = run(network, windows)
    assert outputs.shape == (3, time, ACTION)
    torch.testing.assert_close(unroll(network, windows)[0], outputs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["mambadm", "dmamba"])
def test_and_beyond_any_context(name):
    network, windows = make_network(name), make_windows(2, 5 * CONTEXT)
    torch.testing.assert_close(unroll(network, windows)[0], run(network, windows), rtol=1e-10, atol=1e-10)


@every_actor
def test_memory_keeps_its_layout_is_zeros_at_first_and_is_not_written_to(name):
    network, windows = make_network(name), make_windows(2, 3)
    memory = network.initial_memory(2)
    assert memory.batch_size == (2,)
    assert not any(entry.any() for entry in memory.values(True, True))
    copy = memory.clone()
    _, after = unroll(network, windows, memory)
    assert_same_memory(memory, copy)
    assert {key: (entry.shape, entry.dtype) for key, entry in after.items(True, True)} == {
        key: (entry.shape, entry.dtype) for key, entry in memory.items(True, True)
    }


def change(windows, key, t):
    other = windows.clone()
    other[key][:, t] += 7 if key == "time_step" else 1.5
    return other


def assert_knows_actions_afterwards(network, t):
    windows = make_windows(2, CONTEXT)
    before, after = run(network, windows), run(network, change(windows, "action", t))
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    assert (before - after)[:, t + 1].abs().max() > 1e-6


def assert_knows_only_the_present(network, key, t):
    windows = make_windows(2, CONTEXT)
    before, after = run(network, windows), run(network, change(windows, key, t))
    assert torch.equal(before[:, :t], after[:, :t])
    assert (before - after)[:, t:].abs().amax((0, 2)).min() > 1e-9


@every_model
@pytest.mark.parametrize("t", [0, 2, CONTEXT - 2])
def test_an_action_is_unknown_when_it_is_predicted_and_known_after(name, t):
    assert_knows_actions_afterwards(make_network(name), t)


@every_model
@pytest.mark.parametrize("key", ["observation", "return_to_go", "time_step"])
@pytest.mark.parametrize("t", [0, 3])
def test_the_future_is_unknown_the_present_known(name, key, t):
    assert_knows_only_the_present(make_network(name), key, t)


@every_model
def test_reading_the_token_of_the_action_or_of_the_return_would_be_seen(name):
    network = make_network(name)
    forward = network.backbone.forward
    network.backbone.forward = lambda tokens: (forward(tokens)[0].roll(-1, 1), None)
    with pytest.raises(AssertionError):
        assert_knows_actions_afterwards(network, 2)
    network.backbone.forward = lambda tokens: (forward(tokens)[0].roll(1, 1), None)
    with pytest.raises(AssertionError):
        assert_knows_only_the_present(network, "observation", 3)


def test_behaviour_cloning_sees_only_the_observation_of_the_step():
    network, windows = make_network("bc"), make_windows(2, CONTEXT)
    before = run(network, windows)
    for key in ("action", "return_to_go", "time_step"):
        assert torch.equal(run(network, change(windows, key, 2)), before)
    changed = (run(network, change(windows, "observation", 2)) - before).abs().amax((0, 2)) > 0
    assert changed.tolist() == [t == 2 for t in range(CONTEXT)]


@every_actor
def test_without_time_steps_they_are_counted_from_0(name):
    network, windows = make_network(name), make_windows(2, CONTEXT)
    windows["time_step"] = torch.arange(CONTEXT).reshape(-1, 1).expand(2, CONTEXT, 1).contiguous()
    inputs = [windows[key] for key in ("observation", "action", "return_to_go")]
    assert torch.equal(network(*inputs), run(network, windows))


@every_model
def test_without_a_time_embedding_the_time_does_not_matter(name):
    network, windows = make_network(name, max_steps=0), make_windows(2, CONTEXT)
    assert torch.equal(run(network, windows), run(network, change(windows, "time_step", 2)))


@every_actor
def test_any_leading_shape(name):
    network, windows = make_network(name), make_windows(2, 3, CONTEXT)
    outputs = run(network, windows)
    assert outputs.shape == (2, 3, CONTEXT, ACTION)
    for i in range(2):
        torch.testing.assert_close(run(network, windows[i]), outputs[i])
        torch.testing.assert_close(run(network, windows[i, 1]), outputs[i, 1])


@every_actor
def test_gradients_equal_finite_differences_and_reach_all_parameters(name):
    network, windows = make_network(name), make_windows(1, 3)
    observation = windows["observation"].requires_grad_()
    others = [windows[key] for key in ("action", "return_to_go", "time_step")]
    assert torch.autograd.gradcheck(lambda observation: network(observation, *others), observation, atol=1e-5)
    windows = make_windows(2, CONTEXT)
    run(network, windows).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, parameter_name


@every_actor
def test_statistics_move_into_the_actor(name):
    """Raw observations and returns, in other units, change nothing once the statistics are in those units too."""
    network, windows = make_network(name), make_windows(2, CONTEXT)
    outputs = run(network, windows)
    windows["observation"] = 3 * windows["observation"] + 1
    windows["return_to_go"] *= 100
    assert not torch.allclose(run(network, windows), outputs)
    network.set_statistics(
        3 * torch.linspace(-1, 1, OBSERVATION) + 1, 3 * torch.linspace(0.5, 2, OBSERVATION), 10.0 * 100
    )
    torch.testing.assert_close(run(network, windows), outputs)


@every_actor
def test_pixels(name):
    torch.manual_seed(0)
    sample = make_network(name)
    options = {"context": CONTEXT, "num_heads": 2} if name == "dt" else {}
    network = type(sample)((36, 36, 1), ACTION, width=8, num_layers=1, **options).double().eval()
    windows = make_windows(2, 3)
    windows["observation"] = torch.randint(256, (2, 3, 36, 36, 1), dtype=torch.uint8)
    outputs = run(network, windows)
    torch.testing.assert_close(unroll(network, windows)[0], outputs)
    torch.testing.assert_close(run(network, windows[0]), outputs[0])
    network.set_statistics(None, None, 3.0)


def test_dmamba_is_mambadm_without_the_local_branch():
    network, windows = make_network("dmamba"), make_windows(2, CONTEXT)
    twin = MambaDMActor((OBSERVATION,), ACTION, width=8, num_layers=2, d_state=3, branches="global").double().eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(run(twin, windows), run(network, windows))


def test_sizes_by_default_are_the_decision_transformers():
    network = MambaDMActor((11,), 3)
    assert isinstance(network.backbone, GLoMaStack)
    assert (network.backbone.width, len(network.backbone.layers), network.tokens.time.num_embeddings) == (128, 3, 4096)
    assert network.backbone.layers[0].branches["local"].length == 6
    assert sum(map(torch.numel, network.parameters())) > sum(map(torch.numel, DMambaActor((11,), 3).parameters()))


@every_actor
def test_output_of_another_size(name):
    network = make_network(name, output_size=2 * ACTION)
    assert run(network, make_windows(2, 3)).shape == (2, 3, 2 * ACTION)


def test_any_backbone_will_do():
    tokens = make_network("mambadm").tokens
    network = prepare(SequenceActor(tokens, MambaDynamics(8, d_state=3)))
    windows = make_windows(2, 9)
    torch.testing.assert_close(unroll(network, windows)[0], run(network, windows))


def test_dropout_only_in_training_and_the_decision_transformer_drops_its_tokens_once():
    for name in (*ACTORS, "bc"):
        network, windows = make_network(name, dropout=0.5), make_windows(2, CONTEXT)
        assert torch.equal(run(network, windows), run(network, windows))
        network.train()
        assert not torch.equal(run(network, windows), run(network, windows))
        if name == "dt":
            assert (network.tokens.dropout.p, network.backbone.dropout.p) == (0.0, 0.5)
    drops = [part.p for part in make_network("mambadm").modules() if isinstance(part, nn.Dropout)]
    assert drops == [0.1] * 3, "the tokens and each block"


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("observation", (2, 6, 4), r"observation has the shape \[2, 6, 4\]: give \[.. 5\]"),
        ("observation", (), r"observation has the shape \[\]: give \[.. 5\]"),
        ("observation", (5,), r"action has the shape \[2, 6, 3\]: give \[3\] beside an observation \[5\]"),
        (
            "action",
            (2, 6, 2),
            r"action has the shape \[2, 6, 2\]: give \[2, 6, 3\] beside an observation \[2, 6, 5\]",
        ),
        ("action", (6, 3), r"action has the shape \[6, 3\]: give \[2, 6, 3\] beside an observation \[2, 6, 5\]"),
        ("return_to_go", (2, 6), r"return_to_go has the shape \[2, 6\]: give \[2, 6, 1\] beside"),
        ("time_step", (2, 5, 1), r"time_step has the shape \[2, 5, 1\]: give \[2, 6, 1\] beside"),
    ],
)
def test_shapes_that_do_not_fit_are_named_in_one_line(key, shape, message):
    windows = make_windows(2, CONTEXT).to_dict()
    windows[key] = torch.zeros(shape)
    with pytest.raises(UsageError, match=message) as refusal:
        run(make_network("mambadm"), windows)
    assert "\n" not in str(refusal.value)


def test_windows_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match=r"observation has the shape \[5\]: give windows \[.. t ..\]"):
        run(make_network("mambadm"), make_windows(1)[0])
    with pytest.raises(UsageError, match=r"give windows \[.. t ..\] of at most 6 steps"):
        run(make_network("dt"), make_windows(2, CONTEXT + 1))
    with pytest.raises(UsageError, match="num_layers=0: give at least 1 hidden layer"):
        make_network("bc", num_layers=0)
