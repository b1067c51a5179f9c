"""Every compiled path on a CPU against float64 or the eager path: torch 2.13 has compiled some of them wrong.

Tolerances are parts of the greatest value; float32 rounds to 6e-8 of one, and the errors of wrong code were of order 1.
"""

from __future__ import annotations

import copy
import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import OneHot

from tests.support.scans import make_inputs, values_and_gradients
from tests.support.trained import Trained
from tests.support.updates import assert_close_in_norm, make_agent, make_agent_update, make_model_update, twice
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.factory import updates
from torchrl_glam.machine.compilation import COMPILED, COMPILED_PER_HORIZON, KEPT_GRAPHS, CapturedPerConstants
from torchrl_glam.modules import GLAMDynamics, MambaModule, make_actor
from torchrl_glam.modules.dynamics import LMamba, SlidingWindow
from torchrl_glam.modules.ssm import selective_scan, selective_scan_reference, selective_scan_step
from torchrl_glam.modules.ssm.scan import selective_scan_last
from torchrl_glam.training import autocast, on_policy

TOLERANCE = 2e-6
SIZES = {"batch": 3, "width": 40, "n": 16}  # vectors of 8 and of 16, and a rest


@pytest.fixture(autouse=True)
def _forget_compiled_code(without_shape_checks):
    yield
    torch.compiler.reset()


def doubled(tensors):
    """Return the same numbers in float64, as leaves."""
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


# The scan


@pytest.mark.parametrize("length", [4, 16, 64])
def test_scan_with_gradients(length):
    inputs = make_inputs(length=length, dtype=torch.float32, **SIZES)
    scan = torch.compile(lambda *tensors: selective_scan(*tensors, backend="torch"), **COMPILED)
    got, wanted = values_and_gradients(scan, inputs), values_and_gradients(selective_scan_reference, doubled(inputs))
    names = ("y", "last state", "u", "delta", "A", "B", "C", "D", "state")
    for name, left, right in zip(names, got, wanted, strict=True):
        assert_close_in_norm(left, right, TOLERANCE, name)


@pytest.mark.parametrize("length", [1, 4, 16])
def test_last_output_of_a_scan(length):
    inputs = [tensor.detach() for tensor in make_inputs(length=length, dtype=torch.float32, **SIZES)[:6]]
    last = torch.compile(lambda *tensors: selective_scan_last(*tensors, backend="torch"), **COMPILED)
    wanted = selective_scan_reference(*(tensor.double() for tensor in inputs))[0][:, -1]
    assert_close_in_norm(last(*inputs), wanted, TOLERANCE, "y")


@pytest.mark.parametrize("track", [True, False])
def test_step_of_a_scan(track):
    inputs = make_inputs(length=1, dtype=torch.float32, **SIZES)

    def step(u, delta, A, B, C, D, state):
        y, last = selective_scan_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, state, backend="torch")
        return y[:, None], last

    compiled = torch.compile(step, **COMPILED)
    if track:
        got, wanted = (
            values_and_gradients(compiled, inputs),
            values_and_gradients(selective_scan_reference, doubled(inputs)),
        )
    else:
        with torch.no_grad():
            got, wanted = compiled(*inputs), selective_scan_reference(*doubled(inputs))
    for number, (left, right) in enumerate(zip(got, wanted, strict=True)):
        assert_close_in_norm(left, right, TOLERANCE, f"output {number}")


# The backbone


@pytest.mark.parametrize("num_layers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_local_branch_with_gradients(shake, num_layers):
    """With ``unfold`` in place of its stack of slices, this wrote beyond its memory."""
    torch.manual_seed(0)
    lmamba = shake(LMamba(16, num_layers, window=4, d_state=16))
    tokens = torch.randn(3, 16, 16)
    weights = torch.randn(3, 16, 16, dtype=torch.float64)

    def run(module, forward, tokens):
        tokens = tokens.clone().requires_grad_()
        last = forward(tokens)
        names, parameters = zip(*module.named_parameters(), strict=True)
        gradients = torch.autograd.grad((last * weights.to(last.dtype)).sum(), [tokens, *parameters])
        return dict(zip(("output", "tokens", *names), (last, *gradients), strict=True))

    exact = copy.deepcopy(lmamba).double()
    got = run(lmamba, torch.compile(lambda tokens: lmamba(tokens)[0], **COMPILED), tokens)
    wanted = run(exact, lambda tokens: exact(tokens)[0], tokens.double())
    for name, value in wanted.items():
        assert_close_in_norm(got[name], value, 1e-5, name)


# Imagination


def imagine_twice(world_model, contexts, actor, window=None, precision=torch.float32):
    """Rollouts [4 6] of the plain and of the compiled environment, with the same draws."""
    rollouts = []
    for compiled in (False, True):
        dynamics = None if window is None else SlidingWindow(world_model.dynamics, window)
        env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=4, dynamics=dynamics, compiled=compiled)
        torch.manual_seed(1)
        with torch.no_grad(), autocast(env.device, precision):
            rollouts.append(env.imagine(env.start(contexts["pixels"], contexts["action"]), actor, 6))
    eager, got = rollouts
    assert set(got.keys(True, True)) == set(eager.keys(True, True))
    for key, value in eager.items(True, True):
        assert (got[key].dtype, got[key].shape) == (value.dtype, value.shape), key
    assert len(got["action"].flatten(0, 1).unique(dim=0)) > 1, "a constant action would prove little"
    return eager, got


def in_float64(world_model, contexts, rollout, window, precision=torch.float32):
    """Beliefs, rewards and terminations of the rollout, from its own samples and those of its contexts."""
    exact = copy.deepcopy(world_model).double()
    torch.manual_seed(1)
    with torch.no_grad():
        with autocast(rollout.device, precision):
            real = world_model.encode(contexts["pixels"])
        state = torch.cat([real, rollout["state"]], 1).double()
        tokens = exact.embedding(state, torch.cat([contexts["action"], rollout["action"]], 1))
        length = contexts.shape[1]
        seen = [tokens[:, : end + 1][:, -(window or end + 1) :] for end in range(length, tokens.shape[1])]
        beliefs = torch.stack([exact.dynamics(part)[0][:, -1] for part in seen], 1)
        reward, terminated, _ = exact.predict_outcome(beliefs)
    return beliefs, reward, terminated


CHOICES = ("state", "action", ("next", "state"), ("next", "terminated"), ("next", "done"))
NUMBERS = ("belief", "action_log_prob", ("next", "belief"), ("next", "reward"))
TWO_LAYERS = {"global_layers": 2, "local_layers": 2}


@pytest.mark.parametrize(
    ("depths", "window"),
    [
        pytest.param({}, None, id="1"),
        pytest.param(TWO_LAYERS, None, id="2", marks=pytest.mark.slow),
        pytest.param({}, 7, id="sliding", marks=pytest.mark.slow),  # contexts of 5: full after two steps
    ],
)
def test_imagination(make_world_model, make_batch, shake, depths, window):
    torch.manual_seed(0)
    world_model, contexts = make_world_model(GLAMDynamics(16, **depths)), make_batch(4, 5)
    actor = shake(make_actor(world_model.state_size, 16, OneHot(3), hidden=8), 1.0)
    eager, got = imagine_twice(world_model, contexts, actor, window)
    for key in CHOICES:
        assert torch.equal(got[key], eager[key]), key
    for key in NUMBERS:
        assert_close_in_norm(got[key], eager[key], 1e-5, key)

    beliefs, reward, terminated = in_float64(world_model, contexts, got, window)
    assert_close_in_norm(got["next", "belief"], beliefs, 1e-5, "belief")
    assert_close_in_norm(got["next", "reward"], reward, 1e-4, "reward")  # exponential in the head's output
    assert torch.equal(got["next", "terminated"], terminated)


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 7])
def test_imagination_in_bfloat16(make_world_model, make_batch, shake, window):
    """One bit of bfloat16 is 1/256 of a value: 5e-3 was the difference in beliefs, 0.04 that of what heads make of it.

    Compared are the first steps, since rounding may turn a later sample into another one, and then with float64 all.
    """
    torch.manual_seed(0)
    world_model, contexts = make_world_model(GLAMDynamics(16)), make_batch(4, 5)
    actor = shake(make_actor(world_model.state_size, 16, OneHot(3), hidden=8), 1.0)
    eager, got = imagine_twice(world_model, contexts, actor, window, torch.bfloat16)
    first = (slice(None), 0)
    for key in CHOICES:
        assert torch.equal(got[key][first], eager[key][first]), key
    for key in NUMBERS:
        assert_close_in_norm(got[key][first], eager[key][first], 0.02 if "belief" in key else 0.1, key)
    beliefs, _, _ = in_float64(world_model, contexts, got, window, torch.bfloat16)
    assert_close_in_norm(got["next", "belief"], beliefs, 0.1, "belief")


class StandInGraph:
    """A CUDA graph without a GPU: ``again`` is what it does at a replay."""

    made: list[StandInGraph]
    capturing: StandInGraph | None

    def __init__(self):
        self.made.append(self)
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.again()


@pytest.fixture
def stand_in(monkeypatch):
    """:class:`StandInGraph` where torch has CUDA graphs."""
    StandInGraph.made, StandInGraph.capturing = [], None

    @contextmanager
    def capture(graph, **options):
        StandInGraph.capturing = graph
        yield
        StandInGraph.capturing = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", StandInGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return StandInGraph


def test_a_graph_is_captured_for_each_choice_of_constants(stand_in):
    """Which calls go to a graph, with whose numbers, and how autocast is set in them."""
    caches = []

    def double_power(tensordict, power):
        caches.append(torch.is_autocast_cache_enabled())
        x = tensordict["x"]
        y = 2 * x**power
        if stand_in.capturing:
            stand_in.capturing.again = lambda: y.copy_(2 * x**power)
        return TensorDict({"x": y}, tensordict.batch_size)

    def calls(number, power, size=1):
        data = [TensorDict({"x": torch.full((size,), float(x))}, [size]) for x in range(1, 1 + number)]
        results = [run(value, power)["x"] for value in data]
        assert [result.tolist() for result in results] == [[2.0 * x**power] * size for x in range(1, 1 + number)]
        return [graph.replays for graph in stand_in.made]

    run = CapturedPerConstants(double_power)
    assert calls(3, 2) == [], "gradients are enabled"
    caches.clear()
    with torch.no_grad():
        assert calls(1, 2) == [], "as it is"
        assert calls(1, 2) == [1], "captured"
        assert calls(3, 2) == [4], "replayed, each with its own result"
        assert calls(3, 3) == [4, 2], "another constant"
        assert calls(1, 2) == [5, 2]
        assert calls(3, 2, size=4) == [5, 2, 2], "another batch size"
        torch.set_autocast_enabled("cuda", True)
        try:
            assert calls(3, 2) == [5, 2, 2, 2], "another precision"
        finally:
            torch.set_autocast_enabled("cuda", False)
        assert calls(3, 2, size=4) == [5, 2, 5, 2]
    assert not any(caches), "a graph must not read casts of weights that autocast drops later"
    assert torch.is_autocast_cache_enabled()


def test_graphs_of_past_horizons_are_dropped(stand_in):
    """Each holds 0.5 GB at the paper's sizes, and the released code's horizon rises through 33 values."""
    alive = weakref.WeakSet()

    def unroll(tensordict, horizon):
        x = tensordict["x"] * horizon
        if stand_in.capturing:
            stand_in.capturing.again = lambda: None
            alive.add(stand_in.capturing)
            stand_in.made.clear()
        return TensorDict({"x": x}, tensordict.batch_size)

    run, data = CapturedPerConstants(unroll), TensorDict({"x": torch.ones(2)}, [2])
    with torch.no_grad():
        for horizon in range(1, 34):
            for _ in range(3):
                assert run(data, horizon)["x"].tolist() == [horizon, horizon]
        gc.collect()
        assert len(alive) == KEPT_GRAPHS
        before = list(alive)
        for horizon in (32, 33, 32, 33):
            run(data, horizon)
        assert set(alive) == set(before), "the last two take turns"


def test_what_cannot_be_captured_is_refused_in_one_line(stand_in, monkeypatch):
    """torch 2.13 leaves its allocator capturing: what ran on would fail later, or keep all its memory."""

    def refuse(*args, **options):
        raise RuntimeError("CUDA error: not permitted\nCompile with TORCH_USE_CUDA_DSA")

    def double(tensordict):
        return TensorDict({"x": 2 * tensordict["x"]})

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    run, data = CapturedPerConstants(double), TensorDict({"x": torch.tensor(3.0)})
    with torch.no_grad():
        assert run(data)["x"] == 6
        with pytest.raises(UsageError, match=r"^no CUDA graph can be made of double \(CUDA error: not permitted\): "):
            run(data)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["glam", "ppo"])  # a rollout, and transitions of it
def test_losses_are_compiled_twice_whatever_the_horizons(monkeypatch, objective):
    """Once static, once with a dynamic time; static ones would be compiled for each horizon, and after 8 not at all."""
    compiled = []

    def trace(graph, inputs):
        compiled.append(graph)
        return graph.forward

    options = {name: value for name, value in COMPILED_PER_HORIZON.items() if name != "options"}
    monkeypatch.setattr(on_policy, "COMPILED_PER_HORIZON", {**options, "backend": trace})
    monkeypatch.setattr(updates, "compiles_updates", lambda config, device: True)
    trained, counts = Trained(f"objective={objective}"), []
    for horizon in range(3, 9):
        compiled.clear()
        trained.update_policy(trained.contexts.sample(), horizon)
        counts.append(len(compiled))
    assert counts == [counts[0], counts[0], 0, 0, 0, 0]


# The updates: 75 s for both where nothing is compiled yet


def assert_same_update(metrics, modules, tolerance):
    """Metrics and weights of a compiled update are those of the eager one."""
    eager, compiled = metrics
    assert set(eager.keys()) == set(compiled.keys())
    for key, value in eager.items():
        assert_close_in_norm(compiled[key], value, tolerance, key)
    for left, right in zip(*modules, strict=True):
        for name, value in left.state_dict().items():
            assert_close_in_norm(right.state_dict()[name], value, tolerance, name)


@pytest.mark.slow
def test_world_model_update(make_world_model, make_batch):
    torch.manual_seed(0)
    pairs = twice(make_world_model(GLAMDynamics(16), channels=(4,)))
    before = [value.clone() for value in pairs[0][0].parameters()]
    metrics, states = [], []
    for (world_model,), compiled in zip(pairs, (False, True), strict=True):
        _, update = make_model_update(world_model, compile=compiled)
        torch.manual_seed(1)
        found, latents = update(make_batch(3, 16))
        metrics.append(found)
        states.append(latents["state"])
        assert not world_model.training
    assert torch.equal(*states)
    assert not states[1].requires_grad
    assert_same_update(metrics, pairs, 2e-5)
    assert all((old != new).any() for old, new in zip(before, pairs[1][0].parameters(), strict=True))


def test_a_recurrent_module_is_one_graph_wherever_its_sequences_begin():
    module = MambaModule(3, 8, d_state=4, in_key="observation", out_key="features", default_recurrent_mode=True)
    observation = torch.randn(2, 6, 3)

    def run(is_init):
        return module(TensorDict({"observation": observation, "is_init": is_init}, [2, 6]))["features"]

    compiled = torch.compile(run, fullgraph=True, backend="eager")
    for begins in ([0], [2, 3]):
        is_init = torch.zeros(2, 6, 1, dtype=torch.bool)
        is_init[:, begins] = True
        torch.testing.assert_close(compiled(is_init), run(is_init))


@pytest.mark.slow
def test_policy_update(make_world_model, make_batch, shake):
    world_model, batch = make_world_model(), make_batch(4, 5)
    pairs = twice(*make_agent(world_model, shake))
    before = [value.clone() for module in pairs[0] for value in module.parameters()]
    metrics = []
    for agent, compiled in zip(pairs, (False, True), strict=True):
        *_, update = make_agent_update(world_model, *agent, compile=compiled)
        torch.manual_seed(1)
        metrics.append(update(batch, 6))
    assert_same_update(metrics, pairs, 2e-5)
    after = [value for module in pairs[1] for value in module.parameters()]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
