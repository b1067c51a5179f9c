"""The world model: what it writes, what each output knows of, and one imagined step against plain modules."""

from __future__ import annotations

import math
import re

import pytest
import torch
from tensordict import TensorDict
from torchrl.modules import WorldModelWrapper

from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel, SlidingWindow
from torchrl_glam.modules.dynamics import SequenceBackbone


def draw(log_probabilities):
    """A one-hot sample [.. k*c] by inverting the cumulative sum, as the latent draws it."""
    p = log_probabilities.detach().softmax(-1)
    cumulative = p.cumsum(-1)
    winner = (cumulative <= torch.rand_like(p[..., :1]) * cumulative[..., -1:]).sum(-1)
    return torch.eye(p.shape[-1])[winner].flatten(-2)


class Cumulative(SequenceBackbone):
    """A backbone without variation: the running sum of the tokens."""

    def forward(self, tokens):
        return tokens.cumsum(1), TensorDict({"sum": tokens.sum(1)}, tokens.shape[:1])

    def step(self, token, memory):
        total = memory["sum"] + token
        return total, TensorDict({"sum": total}, memory.batch_size)

    def initial_memory(self, batch_size):
        return TensorDict({"sum": torch.zeros(batch_size, self.width)}, [batch_size])


def run(world_model, batch, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        return world_model(batch.select("pixels", "action").clone())


def test_keys_and_shapes_of_the_table(make_world_model, make_batch):
    world_model = make_world_model()
    outputs = run(world_model, make_batch(2, 7))
    shapes = {
        "posterior_logits": (2, 7, 3, 4),
        "features": (2, 7, 24),
        "frames": (2, 7, 3, 8, 8),
        "state": (2, 7, 12),
        "reconstruction": (2, 7, 3, 8, 8),
        "belief": (2, 7, 8),
        "variation": (2, 7, 8),
        "prior_logits": (2, 7, 3, 4),
        "reward_logits": (2, 7, 255),
        "termination_logits": (2, 7, 1),
    }
    assert set(outputs.keys()) == {"pixels", "action", *shapes}
    assert {key: tuple(outputs[key].shape) for key in shapes} == shapes
    assert world_model.in_keys == ["pixels", "action"]
    assert set(world_model.out_keys) == set(shapes)
    for key in ("posterior_logits", "prior_logits"):
        torch.testing.assert_close(outputs[key].exp().sum(-1), torch.ones(2, 7, 3))
        assert outputs[key].exp().min() >= 0.0099 / 4


def test_sizes_of_the_paper_by_default():
    world_model = GLAMWorldModel(action_size=6)
    assert world_model.dynamics.width == 256
    assert world_model.state_size == 1024
    assert tuple(world_model.embedding.layers[0].weight.shape) == (256, 1024 + 6)
    assert tuple(world_model.prior_head.linear.weight.shape) == (1024, 256)
    assert tuple(world_model.reward_head.trunk[0].weight.shape) == (256, 256)
    assert tuple(world_model.termination_head.trunk[0].weight.shape) == (256, 256)


def test_head_width_is_an_option(make_world_model):
    world_model = make_world_model(head_width=5)
    assert tuple(world_model.reward_head.trunk[0].weight.shape) == (5, 8)
    assert tuple(world_model.termination_head.logit.weight.shape) == (1, 5)


def test_outputs_are_those_of_the_parts(make_world_model, make_batch):
    world_model, batch = make_world_model(), make_batch()
    outputs = run(world_model, batch)
    torch.manual_seed(0)
    with torch.no_grad():
        logits, features = world_model.encoder(batch["pixels"])
        state = draw(logits)
        tokens = world_model.embedding(state, batch["action"].float())
        beliefs, variation, _ = world_model.dynamics.forward_variation(tokens)
        wanted = {
            "posterior_logits": logits,
            "features": features,
            "state": state,
            "reconstruction": world_model.decoder(state),
            "belief": beliefs,
            "variation": variation,
            "prior_logits": world_model.prior_head(beliefs),
            "reward_logits": world_model.reward_head(beliefs),
            "termination_logits": world_model.termination_head(beliefs),
        }
    for key, value in wanted.items():
        torch.testing.assert_close(outputs[key], value, msg=lambda text, key=key: f"{key}: {text}")


OF_THE_FRAME = ("posterior_logits", "features", "state", "reconstruction")
OF_THE_PAST = ("belief", "variation", "prior_logits", "reward_logits", "termination_logits")


def changed_times(before, after, key):
    difference = (before[key] - after[key]).abs().flatten(2).amax((0, 2))
    return (difference > 1e-6).nonzero().flatten().tolist()


@pytest.mark.parametrize("time", [0, 3, 6])
def test_an_action_reaches_outputs_from_its_own_time_on(make_world_model, make_batch, time):
    world_model, batch = make_world_model(), make_batch(2, 7)
    other = batch.clone()
    other["action"][:, time] = other["action"][:, time].roll(1, -1)
    before, after = run(world_model, batch), run(world_model, other)
    for key in OF_THE_FRAME:
        assert changed_times(before, after, key) == [], key
    for key in OF_THE_PAST:
        first = max(time, 1) if key == "variation" else time  # no variation is known at t = 0
        assert changed_times(before, after, key) == list(range(first, 7)), key


@pytest.mark.parametrize("time", [0, 3, 6])
def test_a_frame_reaches_its_own_latent_and_beliefs_from_then_on(make_world_model, make_batch, time):
    world_model, batch = make_world_model(unimix=0.0), make_batch(2, 7)
    world_model.encoder.head.weight.data *= 20  # so that another frame draws another latent
    other = batch.clone()
    other["pixels"][:, time] = 255 - other["pixels"][:, time]
    before, after = run(world_model, batch), run(world_model, other)
    for key in OF_THE_FRAME:
        assert changed_times(before, after, key) == [time], key
    for key in OF_THE_PAST:
        first = max(time, 1) if key == "variation" else time
        assert changed_times(before, after, key) == list(range(first, 7)), key


def test_gradients_reach_no_later_action(make_world_model, make_batch):
    world_model, batch = make_world_model(), make_batch(1, 6)
    action = batch["action"].float().requires_grad_()
    outputs = world_model(TensorDict({"pixels": batch["pixels"], "action": action}, [1, 6]))
    for key in ("prior_logits", "reward_logits", "termination_logits"):
        for time in range(6):
            summed = (outputs[key][:, time] * torch.randn(outputs[key][:, time].shape)).sum()
            (gradient,) = torch.autograd.grad(summed, action, retain_graph=True)
            assert gradient[0].any(-1).tolist() == [step <= time for step in range(6)], key


def test_no_variation_without_such_a_branch(make_world_model, make_batch):
    outputs = run(make_world_model(Cumulative(8)), make_batch())
    assert "variation" not in outputs
    assert outputs["prior_logits"].shape == (2, 8, 3, 4)


def test_outcome_by_hand(make_world_model):
    world_model = make_world_model()
    world_model.termination_head.forward = lambda belief: torch.tensor([[0.5], [0.0], [-0.5]])
    bins = torch.full((3, 255), -torch.inf)
    bins[[0, 1, 2], [127, 254, 100]] = 0.0
    world_model.reward_head.forward = lambda belief: bins
    reward, terminated, done = world_model.predict_outcome(torch.zeros(3, 8))
    assert terminated.tolist() == done.tolist() == [[True], [False], [False]], "terminated where the logit is above 0"
    assert terminated.data_ptr() != done.data_ptr()
    assert reward.flatten().tolist() == pytest.approx([0.0, 4.851652e8, -69.243589], rel=2e-5, abs=1e-6)


def test_encode_and_predict_draw_from_posterior_and_prior(make_world_model, make_batch):
    world_model, pixels, belief = make_world_model(), make_batch()["pixels"], torch.randn(2, 5, 8)
    with torch.no_grad():
        torch.manual_seed(7)
        came = world_model.encode(pixels), world_model.predict_state(belief)
        torch.manual_seed(7)
        wanted = draw(world_model.encoder(pixels)[0]), draw(world_model.prior_head(belief))
    assert came[0].shape == (2, 8, 12)
    assert torch.equal(came[0], wanted[0])
    assert torch.equal(came[1], wanted[1])


@pytest.mark.parametrize("shape", [(), (1,), (512,), (1100,), (3, 400), (2, 3, 171)], ids=str)
def test_encode_in_parts_is_encode_in_one_piece(make_world_model, make_batch, shape):
    world_model, sizes = make_world_model(), []
    frames = math.prod(shape)
    pixels = make_batch(1, frames)["pixels"].reshape(*shape, 8, 8, 3)
    world_model.encoder.register_forward_hook(lambda _, inputs, outputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        torch.manual_seed(7)
        came = world_model.encode(pixels)
        assert sizes == [512] * (frames // 512) + [rest for rest in (frames % 512,) if rest]
        torch.manual_seed(7)
        wanted = draw(world_model.encoder(pixels.reshape(frames, 8, 8, 3))[0])
    assert torch.equal(came, wanted.reshape(*shape, 12))


@pytest.mark.parametrize("sliding", [False, True])
def test_wrapper_is_embedding_step_and_prior(make_world_model, make_batch, sliding):
    world_model, batch = make_world_model(), make_batch(4, 5)
    dynamics = SlidingWindow(world_model.dynamics, 3) if sliding else world_model.dynamics
    wrapper = world_model.make_wrapper(dynamics if sliding else None)
    assert isinstance(wrapper, WorldModelWrapper)
    assert wrapper.get_transition_model_operator().module.dynamics is dynamics
    with torch.no_grad():
        tokens = world_model.embedding(world_model.encode(batch["pixels"]), batch["action"])
        _, memory = dynamics(tokens)
        state, action = torch.eye(12)[:4], torch.eye(3)[[0, 1, 2, 0]]
        torch.manual_seed(5)
        came = wrapper(TensorDict({"state": state, "action": action, "memory": memory}, [4]))
        torch.manual_seed(5)
        belief, after = dynamics.step(world_model.embedding(state, action), memory)
        assert torch.equal(came["belief"], belief)
        assert torch.equal(came["state"], draw(world_model.prior_head(belief)))
        assert (came["memory"] == after).all()
        torch.testing.assert_close(came["reward"], world_model.reward_head.decode(world_model.reward_head(belief)))
        assert torch.equal(came["terminated"], world_model.termination_head(belief) > 0)
        assert torch.equal(came["done"], came["terminated"])
        assert came["reward"].shape == came["done"].shape == (4, 1)


@pytest.mark.parametrize("time", [1, 3, 6])
def test_start_equals_steps(make_world_model, make_batch, time):
    world_model, batch = make_world_model(), make_batch(2, time)
    transition = world_model.make_wrapper().get_transition_model_operator().module
    decoded = []
    world_model.decoder.register_forward_hook(lambda *_: decoded.append(1))
    with torch.no_grad():
        torch.manual_seed(3)
        state, belief, memory = transition.start(batch["pixels"], batch["action"])
        torch.manual_seed(3)
        real = draw(world_model.encoder(batch["pixels"])[0])
        stepped = world_model.dynamics.initial_memory(2)
        for t in range(time):
            last, stepped = world_model.dynamics.step(world_model.embedding(real[:, t], batch["action"][:, t]), stepped)
        torch.testing.assert_close(belief, last, rtol=1e-4, atol=1e-4)
        assert torch.equal(state, draw(world_model.prior_head(belief)))
    for key in stepped.keys(True, True):
        torch.testing.assert_close(memory[key], stepped[key], rtol=1e-4, atol=1e-4)
    assert not decoded, "the decoder need not run"


def test_wrapper_shares_parameters(make_world_model):
    world_model = make_world_model()
    known = {id(parameter) for parameter in world_model.parameters()}
    assert {id(parameter) for parameter in world_model.make_wrapper().parameters()} <= known


@pytest.mark.parametrize(
    "pixels",
    [
        torch.rand(2, 5, 8, 8, 3),
        torch.zeros(2, 5, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 5, 16, 8, 3, dtype=torch.uint8),
        torch.zeros(8, 3, dtype=torch.uint8),
    ],
    ids=["floats", "channels first", "another size", "no frame"],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_other_frames_are_refused(make_world_model, pixels):
    """Floats above all: they would be divided by 255 once more without a word."""
    world_model = make_world_model()
    came = re.escape(f"the pixels are {pixels.dtype} of shape {tuple(pixels.shape)}: the world model wants uint8")
    for run in (
        world_model.encode,
        lambda pixels: world_model(TensorDict({"pixels": pixels, "action": torch.zeros(2, 5, 3)})),
    ):
        with pytest.raises(UsageError, match=rf"{came} \[\.\. 8 8 3\], channels last"):
            run(pixels)


def test_depth_of_the_backbone_is_free(make_world_model, make_batch):
    dynamics = GLAMDynamics(8, global_layers=2, local_layers=2, d_state=3)
    assert run(make_world_model(dynamics), make_batch())["belief"].shape == (2, 8, 8)
