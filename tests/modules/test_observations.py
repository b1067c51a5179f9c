"""Encoders of vectors, mixtures and differences, in the world model, its loss and its policy."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import OneHot
from torchrl.modules.functional import symlog

from tests.support.observed import KINDS, make_batch
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMPolicy, auto_decoder, auto_encoder, check_encoder, make_actor
from torchrl_glam.modules.autoencoders import (
    ImageDecoder,
    ImageEncoder,
    MixedDecoder,
    MixedEncoder,
    PatchEncoder,
    VectorDecoder,
    VectorEncoder,
    example_observation,
    step_before,
)
from torchrl_glam.modules.latent import unimix_logits
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.objectives.world_model_terms import total_loss


@pytest.fixture(params=KINDS)
def world_model(request, make_world_model):
    return make_world_model(**KINDS[request.param])


@pytest.mark.parametrize("marks", [False, True])
def test_everything_is_trained(make_world_model, marks):
    world_model = make_world_model(**KINDS["mixed difference"], marks_starts=marks)
    loss = GLAMModelLoss(world_model, motion_weight=30.0, event_coeff=1.0)
    terms = loss(make_batch(world_model))
    assert {"loss_reconstruction_pixels", "loss_reconstruction_observation"} < set(terms.keys())
    total_loss(terms).backward()
    assert not [name for name, weight in world_model.named_parameters() if weight.grad is None]


def test_a_vector_is_compared_in_symlog_space(make_world_model):
    world_model = make_world_model(**KINDS["vector"])
    batch = make_batch(world_model)
    torch.manual_seed(0)
    terms = GLAMModelLoss(world_model)(batch)
    torch.manual_seed(0)
    outputs = world_model(batch.select("observation", "action"))
    wanted = (outputs["reconstruction"] - symlog(batch["observation"])).square().sum(-1).mean()
    torch.testing.assert_close(terms["loss_reconstruction"], wanted.detach(), check_stride=False)


def test_vectors_that_differ_by_a_factor_differ(shake):
    encoder = shake(VectorEncoder(4, 3, 4))
    vector = torch.randn(4)
    assert not torch.allclose(encoder(vector)[0], encoder(2 * vector)[0], atol=1e-3)


def test_the_logits_of_a_mixture_are_the_sum_of_its_parts(shake):
    encoder = shake(MixedEncoder((8, 8, 3), 5, (4, 6), 3, 4, hidden=7)).eval()
    observation = example_observation((8, 8, 3), 5, ("pixels", "observation"), 6)
    frames = encoder.preprocess(observation)
    raw = [part.extract(frames[key])[1] for key, part in encoder.parts.items()]
    wanted = unimix_logits((raw[0] + raw[1]).reshape(6, 3, 4), 0.01)
    logits, features = encoder(observation)
    torch.testing.assert_close(logits, wanted)
    assert features.shape == (6, 6 * 2 * 2 + 7)


@pytest.mark.parametrize("encoder", [ImageEncoder, partial(PatchEncoder, patch=2)])
def test_differences_are_further_channels(encoder, shake):
    encoder = shake(encoder(image_shape=(8, 8, 3), channels=(4, 6), num_categoricals=3, num_classes=4, difference=True))
    encoder.eval()
    pixels = torch.randint(256, (5, 8, 8, 3), dtype=torch.uint8)
    inputs = []
    encoder.layers = lambda frames, layers=encoder.layers: inputs.append(frames) or layers(frames)
    encoder(pixels[1:], pixels[:-1])
    encoder(pixels)
    frames = pixels.movedim(-1, 1) / 255
    torch.testing.assert_close(inputs[0], torch.cat([frames[1:], frames[1:] - frames[:-1]], 1))
    torch.testing.assert_close(inputs[1], torch.cat([frames, 0 * frames], 1))


def test_a_sequence_is_encoded_as_in_training(world_model):
    world_model.encoder.unimix = 0.0
    batch = make_batch(world_model)
    logits = world_model(batch.clone())["posterior_logits"]
    for _, head in world_model.encoder.named_modules():
        if isinstance(getattr(head, "head", None), nn.Linear):
            head.head.weight.data *= 1e3  # so that each sample is the likeliest class
    logits = world_model(batch.clone())["posterior_logits"]
    assert (logits.exp().amax(-1) > 0.999).float().mean() > 0.9
    same = world_model.encode_sequence(world_model.observation(batch)).unflatten(-1, (3, 4)).argmax(-1)
    assert (same == logits.argmax(-1)).float().mean() > 0.98


@pytest.mark.parametrize("marks", [False, True])
def test_the_policy_sees_in_each_step_what_training_sees(world_model, marks):
    """The belief of the policy's context is that of a sequence from the episode's first step on."""
    if marks:
        world_model.start_mark = nn.Parameter(torch.randn(world_model.dynamics.width))
    batch = make_batch(world_model, 2, 6)
    policy = GLAMPolicy(
        world_model, make_actor(world_model.state_size, 8, OneHot(3)), OneHot(3), context_length=8, sees="posterior"
    )
    given, drawn = [], []
    world_model.encode = lambda *inputs, encode=world_model.encode: drawn.append(encode(*inputs)) or drawn[-1]
    world_model.encoder.encode = lambda *inputs, encode=world_model.encoder.encode: (
        given.append(inputs) or encode(*inputs)
    )
    context = policy.context_spec.zero([2])
    for t in range(6):
        step = policy(batch[:, t].select(*world_model.observation_keys).set("context", context))
        context = step["next", "context"]
    state, action = torch.stack(drawn, 1), context["action"][:, :6]
    is_init = torch.zeros(2, 6, 1, dtype=torch.bool)
    is_init[:, 0] = True
    beliefs, _ = world_model.dynamics(world_model.make_tokens(state, action, is_init))
    torch.testing.assert_close(policy.recall(context)[0], beliefs[:, -1])
    if world_model.sees_differences:
        frames = world_model.encoder.preprocess(world_model.observation(batch))
        before = step_before(frames)
        for t, (now, previous) in enumerate(given):
            assert torch.equal(_pixels(now), _pixels(frames[:, t]))
            assert torch.equal(_pixels(previous), _pixels(before[:, t]))


def _pixels(frames):
    return frames if isinstance(frames, torch.Tensor) else frames["pixels"]


def test_the_first_step_of_an_episode_is_marked_and_not_predicted(make_world_model):
    world_model = make_world_model(marks_starts=True, **KINDS["vector"])
    loss, batch = GLAMModelLoss(world_model, free_nats=0.0, variation_free_nats=0.0), make_batch(world_model)
    outputs = {}
    world_model.register_forward_hook(lambda module, inputs, output: outputs.update(output))
    terms = loss(batch)
    assert outputs["is_init"].nonzero().tolist() == [[0, 4, 0]]
    kl = outputs["posterior_logits"][:, 4:].exp() * (
        outputs["posterior_logits"][:, 4:] - outputs["prior_logits"][:, 3:-1]
    )
    kl = kl.sum((-1, -2))
    kl[0, 0] = 0.0  # what led over the cut
    torch.testing.assert_close(terms["kl_dynamics"], kl.mean().detach())


def test_a_mark_says_where_an_episode_begins(make_world_model):
    world_model = make_world_model(marks_starts=True, **KINDS["vector"])
    state, action = torch.randn(2, 5, 12), torch.randn(2, 5, 3)
    is_init = torch.zeros(2, 5, 1, dtype=torch.bool)
    is_init[1, 2] = True
    tokens = world_model.make_tokens(state, action, is_init) - world_model.make_tokens(state, action)
    assert tokens.abs().sum(-1).nonzero().tolist() == [[1, 2]]
    env = GLAMImaginedEnv(world_model, OneHot(3))
    observation = torch.randn(2, 5, 5)
    torch.manual_seed(0)
    marked = env.start(observation, action, is_init)
    torch.manual_seed(0)
    plain = env.start(observation, action)
    changed = (marked["belief"] != plain["belief"]).any(-1)
    assert changed.tolist() == [False, True]


@pytest.mark.parametrize(
    ("sizes", "choice", "words"),
    [
        (KINDS["vector"], {"encoder": ImageEncoder}, "this encoder cannot be made for a vector .*choose encoder=auto"),
        (KINDS["mixed"], {"decoder": ImageDecoder}, "this decoder cannot be made for pixels and a vector"),
        ({}, {"encoder": VectorEncoder}, "this encoder cannot be made for pixels"),
        ({"image_shape": None}, {}, "nothing is observed"),
        (KINDS["vector"], {"encoder": partial(auto_encoder, difference=True)}, "difference=true is for images"),
    ],
)
def test_a_part_for_something_else_is_refused(make_world_model, sizes, choice, words):
    with pytest.raises(UsageError, match=words):
        make_world_model(**sizes, **choice)


@pytest.mark.parametrize("keys", [("pixels",), ("camera",), "observation", ()])
def test_a_part_that_reads_what_is_not_observed_is_refused(make_world_model, keys):
    class Reader(VectorEncoder):
        in_keys = keys

    with pytest.raises(
        UsageError, match=r"Reader.in_keys is .*: a tuple of what is observed, 'observation', is wanted"
    ):
        make_world_model(**KINDS["vector"], encoder=Reader)


def test_another_vector_is_refused(make_world_model):
    world_model = make_world_model(**KINDS["vector"])
    for wrong in (torch.zeros(2, 4), torch.zeros(2, 5, dtype=torch.long)):
        with pytest.raises(UsageError, match=r"the world model wants floats \[.. 5\]"):
            world_model.encode(wrong)
    with pytest.raises(UsageError, match="there is no 'observation'"):
        world_model.observation(TensorDict({"pixels": torch.zeros(2, 3)}, [2]))


@pytest.mark.parametrize("option", [{"motion_weight": 30.0}, {"event_coeff": 1.0}])
def test_options_of_pixels_want_pixels(make_world_model, option):
    with pytest.raises(UsageError, match="no pixels are observed: leave it out"):
        GLAMModelLoss(make_world_model(**KINDS["vector"]), **option)


class Coder(ImageEncoder):
    """Somebody's, spoiled in one way."""

    def __init__(self, spoil=""):
        super().__init__((8, 8, 3), (4,), 3, 4)
        self.spoil = spoil

    def encode(self, frames, previous=None):
        logits, features = super().encode(frames)
        if self.spoil == "error" or (self.spoil == "frames alone" and frames.ndim > 4):
            raise ZeroDivisionError
        if self.spoil == "mixes":
            logits = (logits - logits.detach().mean(0, keepdim=True)).log_softmax(-1)
        return {
            "pair": logits,
            "shape": (logits.flatten(-2), features),
            "sum": (logits + 1, features),
            "gradient": (logits.detach(), features),
        }.get(self.spoil, (logits, features))

    def forward(self, observation, previous=None):
        logits, features = super().forward(observation)
        if self.spoil == "nothing":
            return None
        return (logits.roll(1, -2), features) if self.spoil == "forward" else (logits, features)

    def postprocess(self, frames):
        return frames[self.spoil] if self.spoil == "postprocess" else frames


@pytest.mark.parametrize(
    ("encoder", "decoder", "words"),
    [
        (Coder("pair"), ImageDecoder((8, 8, 3), (4,), 12), "no pair"),
        (Coder("shape"), ImageDecoder((8, 8, 3), (4,), 12), r"floats \[2, 3, 4\] are wanted"),
        (Coder("sum"), ImageDecoder((8, 8, 3), (4,), 12), "no log-probabilities"),
        (Coder("gradient"), ImageDecoder((8, 8, 3), (4,), 12), "depend on no parameter"),
        (Coder("error"), ImageDecoder((8, 8, 3), (4,), 12), "encode raised ZeroDivisionError"),
        (Coder("forward"), ImageDecoder((8, 8, 3), (4,), 12), "other logits than encode"),
        (Coder("nothing"), ImageDecoder((8, 8, 3), (4,), 12), "forward returned no pair"),
        (Coder("frames alone"), ImageDecoder((8, 8, 3), (4,), 12), "encode raised ZeroDivisionError"),
        (Coder("mixes"), ImageDecoder((8, 8, 3), (4,), 12), "no frame may see another"),
        (Coder("postprocess"), ImageDecoder((8, 8, 3), (4,), 12), "postprocess raised IndexError"),
        (Coder(), ImageDecoder((8, 4, 3), (4,), 12), r"returned torch.float32 \[2, 3, 8, 4\] as frames"),
        (Coder(), ImageDecoder((8, 8, 3), (4,), 13), "ImageDecoder.forward raised"),
    ],
)
def test_a_part_that_breaks_the_contract_is_named(encoder, decoder, words):
    with pytest.raises(UsageError, match=words):
        check_encoder(encoder, decoder, torch.randint(256, (2, 8, 8, 3), dtype=torch.uint8), (3, 4))


@pytest.mark.parametrize("kind", ["vector", "mixed", "grey"])
def test_the_packages_own_keep_the_contract(kind):
    sizes = {"image_shape": None, "vector_size": 0, **KINDS[kind]}
    given = {name: size for name, size in sizes.items() if size}
    encoder, decoder = auto_encoder(**given, num_categoricals=3, num_classes=4), auto_decoder(**given, state_size=12)
    wanted = {"vector": (VectorEncoder, VectorDecoder), "mixed": (MixedEncoder, MixedDecoder)}
    assert (type(encoder), type(decoder)) == wanted.get(kind, (ImageEncoder, ImageDecoder))
    observation = example_observation(sizes["image_shape"], sizes["vector_size"], encoder.in_keys)
    before = torch.random.get_rng_state()
    check_encoder(encoder, decoder, observation, (3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
