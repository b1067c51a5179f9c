"""STORM's Transformer against torch's own layers, its memory, its dropout and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.backbones import MAX_LENGTH, WIDTH, layer_norm, make_backbone, make_tokens, unroll
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import TransformerDynamics


def oracle_of(layer, expand=2, **options):
    """torch's encoder layer with the same weights."""
    oracle = nn.TransformerEncoderLayer(WIDTH, 2, expand * WIDTH, dropout=0.0, batch_first=True, **options).double()
    weights = {
        "self_attn.in_proj_weight": torch.cat([layer.query.weight, layer.key_value.weight]),
        "self_attn.in_proj_bias": torch.cat([layer.query.bias, layer.key_value.bias]),
    }
    names = {
        "self_attn.out_proj": "output",
        "linear1": "feed_forward.0",
        "linear2": "feed_forward.2",
        "norm1": "attention_norm",
        "norm2": "feed_forward_norm",
    }
    for name, ours in names.items():
        for kind in ("weight", "bias"):
            weights[f"{name}.{kind}"] = getattr(layer.get_submodule(ours), kind)
    oracle.load_state_dict(weights)
    return oracle


@pytest.mark.parametrize("name", ["transformer", "transformer 2"])
@pytest.mark.parametrize("time", [1, 2, MAX_LENGTH])
def test_forward_is_that_of_torchs_layers(name, time):
    """Gradients are on, so that torch takes its plain path."""
    dynamics, tokens = make_backbone(name), make_tokens(time)
    hidden = layer_norm(tokens + dynamics.positions[:time], dynamics.norm)
    mask = nn.Transformer.generate_square_subsequent_mask(time, dtype=torch.float64)
    for layer in dynamics.layers:
        hidden = oracle_of(layer)(hidden, src_mask=mask, is_causal=True)
    torch.testing.assert_close(dynamics(tokens)[0], hidden)


@pytest.mark.parametrize("time", [1, 2, MAX_LENGTH])
def test_with_norms_first_too(time):
    """No norm of the embedded tokens, one at the end: GPT-2."""
    dynamics, tokens = make_backbone("gpt 2"), make_tokens(time)
    hidden = tokens + dynamics.positions[:time]
    mask = nn.Transformer.generate_square_subsequent_mask(time, dtype=torch.float64)
    for layer in dynamics.layers:
        oracle = oracle_of(layer, expand=4, norm_first=True, activation="gelu")
        hidden = oracle(hidden, src_mask=mask, is_causal=True)
    torch.testing.assert_close(dynamics(tokens)[0], layer_norm(hidden, dynamics.final_norm))


def test_parameters_at_the_sizes_of_the_paper():
    """Table 5: width 512, 2 layers, 8 heads, dropout 0.1; the feed-forward network is twice as wide."""
    dynamics = TransformerDynamics(512, num_layers=2)
    assert [tuple(part.weight.shape) for part in dynamics.layers[1].feed_forward[::2]] == [(1024, 512), (512, 1024)]
    assert dynamics.layers[1].num_heads == 8
    assert {part.p for part in dynamics.modules() if isinstance(part, nn.Dropout)} == {0.1}
    layer = 4 * 512 * 512 + 4 * 512 + 4 * 512 * 512 + 3 * 512 + 4 * 512
    assert sum(parameter.numel() for parameter in dynamics.parameters()) == 64 * 512 + 2 * 512 + 2 * layer


def test_memory_has_fixed_shapes_and_zeros_in_what_is_not_filled():
    dynamics, tokens = make_backbone("transformer 2"), make_tokens(5)
    for memory in (dynamics(tokens)[1], unroll(dynamics, tokens)[1], dynamics.prefill(tokens)[1]):
        assert memory["length"].tolist() == [5, 5]
        for index in ("0", "1"):
            for entries in memory["layers", index].values():
                assert entries.shape == (2, MAX_LENGTH, WIDTH)
                assert entries[:, :5].all()
                assert not entries[:, 5:].any()


def test_what_lies_in_slots_that_are_not_filled_does_not_matter():
    """Elements that begin anew may find the entries of the sequence before."""
    dynamics, tokens = make_backbone("transformer 2"), make_tokens(4)
    memory = dynamics(tokens[:, :3])[1]
    dirty = memory.clone()
    for layer in dirty["layers"].values():
        for entries in layer.values():
            entries[:, 3:] = 1e3
    assert torch.equal(dynamics.step(tokens[:, 3], memory)[0], dynamics.step(tokens[:, 3], dirty)[0])


def test_last_layer_of_prefill_asks_for_the_last_token_alone():
    dynamics, shapes = make_backbone("transformer 2"), []
    for layer in dynamics.layers:
        layer.query.register_forward_hook(lambda *call: shapes.append(tuple(call[-1].shape)))
    dynamics.prefill(make_tokens(7))
    assert shapes == [(2, 7, WIDTH), (2, 1, WIDTH)]


def test_dropout_in_training_mode_alone():
    dynamics, tokens = make_backbone("transformer"), make_tokens(5)
    exact, memory = dynamics(tokens)
    dynamics.train()
    for run in (lambda: dynamics(tokens)[0], lambda: dynamics.step(tokens[:, 0], memory)[0]):
        assert not torch.equal(run(), run())
    assert not torch.equal(dynamics(tokens)[0], exact)
    for part in dynamics.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    assert torch.equal(dynamics(tokens)[0], exact)


@pytest.mark.parametrize("place", ["dropout", "layers.0.dropout"])
def test_what_dropout_reaches(place):
    """The embedded tokens; attention weights, and what attention and feed-forward network add."""
    dynamics, tokens = make_backbone("transformer").train(), make_tokens(MAX_LENGTH, batch=200)
    for part in dynamics.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    dynamics.get_submodule(place).p = 0.5
    layer, seen = dynamics.layers[0], {}
    for name in ("query", "output", "attention_norm", "feed_forward_norm"):
        layer.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    layer.feed_forward.register_forward_hook(lambda _, inputs, output: seen.update(added=output))
    torch.manual_seed(0)
    dynamics(tokens)
    inputs = seen["query"][0]
    if place == "dropout":
        assert (inputs == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
        return
    for added, output in (
        (seen["attention_norm"][0] - inputs, seen["output"][1]),
        (seen["feed_forward_norm"][0] - seen["attention_norm"][1], seen["added"]),
    ):
        kept = added.abs() > 1e-12
        assert kept.double().mean().item() == pytest.approx(0.5, abs=0.02)
        torch.testing.assert_close(added[kept], 2 * output[kept])
    # The first token sees itself alone: a head of it is dropped whole or doubled.
    heads = seen["output"][0][:, 0].unflatten(-1, (2, -1))
    dropped = (heads == 0).all(-1)
    assert torch.equal(dropped, (heads == 0).any(-1))
    assert dropped.double().mean().item() == pytest.approx(0.5, abs=0.08)


def test_more_tokens_than_the_memory_has_slots_are_refused():
    dynamics, tokens = make_backbone("transformer"), make_tokens(MAX_LENGTH + 1)
    for run in (dynamics, dynamics.prefill):
        with pytest.raises(UsageError, match="13 tokens came and max_length is 12: choose a greater max_length"):
            run(tokens)
    beliefs, memory = unroll(dynamics, tokens[:, :-1])
    torch.testing.assert_close(beliefs, dynamics(tokens[:, :-1])[0])
    with pytest.raises(RuntimeError, match="remembers max_length=12 tokens, no more: choose a greater max_length"):
        dynamics.step(tokens[:, -1], memory)
    one_is_full = torch.stack([memory[0], dynamics.initial_memory(2)[1]])
    with pytest.raises(RuntimeError, match="choose a greater max_length"):
        dynamics.step(tokens[:, -1], one_is_full)


@pytest.mark.slow
@pytest.mark.parametrize("track", [True, False])
def test_a_compiled_step_is_right_and_refuses_one_token_too_many(track):
    dynamics, tokens = make_backbone("transformer", torch.float32), make_tokens(MAX_LENGTH, dtype=torch.float32)
    step = torch.compile(dynamics.step, fullgraph=True, dynamic=False)
    try:
        with torch.no_grad():
            beliefs, memory = dynamics(tokens)
            _, before = dynamics(tokens[:, :-1])
        with torch.set_grad_enabled(track):
            belief, last = step(tokens[:, -1], before)
            torch.testing.assert_close(belief, beliefs[:, -1], rtol=1e-4, atol=1e-5)
            assert last["length"].tolist() == [MAX_LENGTH] * 2
            with pytest.raises(RuntimeError, match="remembers max_length=12 tokens, no more"):
                step(tokens[:, -1], memory)
    finally:
        torch.compiler.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 4}, "num_heads=4 does not divide width=6: choose a divisor"),
        ({"num_heads": 0}, "num_heads=0 does not divide width=6"),
        ({"num_heads": 2, "num_layers": 0}, "num_layers=0 and max_length=64: at least 1 of each is wanted"),
        ({"num_heads": 2, "max_length": 0}, "num_layers=1 and max_length=0: at least 1 of each is wanted"),
        (
            {"num_heads": 2, "expand": 0},
            "expand=0 and activation='relu': at least 1, and one of relu, gelu, are wanted",
        ),
        ({"num_heads": 2, "activation": "tanh"}, "activation='tanh': at least 1, and one of relu, gelu, are wanted"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TransformerDynamics(WIDTH, **options)
