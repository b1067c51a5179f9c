"""``check_backbone``: ours pass it; what is wrong with a user's class is named."""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from tests.support.backbones import BACKBONES, WIDTH
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import SequenceBackbone, SlidingWindow, TransformerDynamics, check_backbone


class Fading(SequenceBackbone):
    """A user's class that keeps the contract: a sum of projected tokens that fades."""

    def __init__(self, width=WIDTH):
        super().__init__(width)
        self.linear = nn.Linear(width, width)

    def forward(self, tokens):
        beliefs, memory = [], self.initial_memory(len(tokens))
        for token in tokens.unbind(1):
            belief, memory = self.step(token, memory)
            beliefs.append(belief)
        return torch.stack(beliefs, 1), memory

    def step(self, token, memory):
        total = 0.5 * memory["sum"] + self.linear(token)
        return total, TensorDict({"sum": total}, memory.batch_size)

    def initial_memory(self, batch_size):
        return TensorDict({"sum": self.linear.weight.new_zeros(batch_size, self.width)}, [batch_size])


class NoWidth(Fading):
    def __init__(self):
        super().__init__()
        del self.width


class TextWidth(Fading):
    def __init__(self):
        super().__init__()
        self.width = "6"


class NoPair(Fading):
    def forward(self, tokens):
        return super().forward(tokens)[0]


class LastAlone(Fading):
    def forward(self, tokens):
        beliefs, memory = super().forward(tokens)
        return beliefs[:, -1], memory


class OtherDtype(Fading):
    def step(self, token, memory):
        total, memory = super().step(token, memory)
        return total.double(), memory


class PlainDict(Fading):
    def initial_memory(self, batch_size):
        return {"sum": torch.zeros(batch_size, self.width)}


class Forgetful(Fading):
    def initial_memory(self, batch_size):
        return TensorDict({"sum": torch.zeros(batch_size, self.width)}, [])


class NewKey(Fading):
    def step(self, token, memory):
        belief, memory = super().step(token, memory)
        return belief, memory.set("count", torch.ones(2))


class LostKey(Fading):
    def initial_memory(self, batch_size):
        return super().initial_memory(batch_size).set("count", torch.zeros(batch_size))


class Growing(Fading):
    def step(self, token, memory):
        belief = memory["tokens"].sum(1) + token
        return belief, TensorDict({"tokens": torch.cat([memory["tokens"], token[:, None]], 1)}, memory.batch_size)

    def initial_memory(self, batch_size):
        return TensorDict({"tokens": torch.zeros(batch_size, 0, self.width)}, [batch_size])


class SeesTheFuture(Fading):
    def forward(self, tokens):
        return super().forward(tokens + tokens.roll(-1, 1))


class OffByOne(Fading):
    def forward(self, tokens):
        beliefs, memory = super().forward(tokens)
        return torch.cat([beliefs[:, :2], 2 * beliefs[:, 2:]], 1), memory


class EmptyMemory(Fading):
    def forward(self, tokens):
        return super().forward(tokens)[0], self.initial_memory(len(tokens))


class WritesInPlace(Fading):
    def step(self, token, memory):
        total = memory["sum"].mul_(0.5).add_(self.linear(token))
        return total.clone(), TensorDict({"sum": total.clone()}, memory.batch_size)


class Draws(Fading):
    def step(self, token, memory):
        return super().step(token + torch.randn_like(token), memory)


class WrongPrefill(Fading):
    def prefill(self, tokens):
        belief, memory = super().prefill(tokens)
        return belief + 1, memory


class WideVariation(Fading):
    has_variation = True

    def forward_variation(self, tokens):
        beliefs, memory = self(tokens)
        return beliefs, beliefs[:, 1:], memory


class SilentVariation(Fading):
    has_variation = True


class UnsaidVariation(Fading):
    def forward_variation(self, tokens):
        beliefs, memory = self(tokens)
        return beliefs, beliefs, memory


class Pair(Fading):
    def forward_variation(self, tokens):
        return self(tokens)


class NoMemoryArgument(Fading):
    def step(self, token):
        return token

    def forward(self, tokens):
        return self.linear(tokens), self.initial_memory(len(tokens))


class Raises(Fading):
    def step(self, token, memory):
        return self.linear(token[:, 1:]), memory  # raised inside torch, but this line is to be named


class Positions(Fading):
    """Keeps the contract for eight tokens."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, WIDTH)

    def step(self, token, memory):
        position = memory["position"]
        belief, memory = super().step(token + self.table(position), memory)
        return belief, memory.set("position", position + 1)

    def initial_memory(self, batch_size):
        return super().initial_memory(batch_size).set("position", torch.zeros(batch_size, dtype=torch.long))


class NotFinite(Fading):
    def step(self, token, memory):
        belief, memory = super().step(token, memory)
        return belief / 0, memory


CONTRACT = "breaks the contract of a sequence backbone: "
BROKEN = [
    (NoWidth, r"NoWidth.width is None: a positive int is wanted; call super\(\).__init__\(width\)"),
    (TextWidth, "TextWidth.width is '6': a positive int is wanted"),
    (NoPair, CONTRACT + r"forward returned float32 \[2, 6, 6\], where a tuple of 2 is wanted, the memory last"),
    (LastAlone, r"forward returned float32 \[2, 6\] as belief, where float32 \[2, 6, 6\] is wanted"),
    (OtherDtype, r"forward returned float64 \[2, 6, 6\] as belief, where float32 \[2, 6, 6\] is wanted"),
    (PlainDict, r"initial_memory returned dict as memory, where a TensorDict \[2\] is wanted"),
    (Forgetful, r"initial_memory returned a TensorDict \[\] as memory, where a TensorDict \[2\] is wanted"),
    (NewKey, r"memory 'count' is not there after initial_memory, but float32 \[2\] on cpu after forward"),
    (LostKey, r"memory 'count' is float32 \[2\] on cpu after initial_memory, but not there after forward"),
    (
        Growing,
        r"'tokens' is float32 \[2, 0, 6\] on cpu after initial_memory, but float32 \[2, 6, 6\] on cpu after forw",
    ),
    (SeesTheFuture, "forward sees the future, tokens from t=3 on: another belief at t=2, by "),
    (OffByOne, r"step, from initial_memory, is not as forward: another belief at t=2, by \d"),
    (EmptyMemory, r"step, from the memory of forward over 3 tokens, is not as forward: another belief at t=3, by \d"),
    (WritesInPlace, "step writes to the memory 'sum' that it is given: return a new one"),
    (Draws, "another belief at t=0, by "),
    (WrongPrefill, r"prefill is not as forward: another belief at t=5, by 1"),
    (SilentVariation, "has_variation is True, but forward_variation returned none"),
    (UnsaidVariation, "has_variation is False, but forward_variation returned one"),
    (WideVariation, r"forward_variation returned float32 \[2, 5, 6\] as belief, where float32 \[2, 6, 6\]"),
    (Pair, "forward_variation returned a tuple of 2, where a tuple of 3 is wanted"),
    (NoMemoryArgument, r"step raised TypeError: \S*step\(\) takes 2 positional arguments but 3 were given"),
    (
        Raises,
        r"forward raised RuntimeError: mat1 and mat2 .*\(\S*test_check_backbone.py, line \d+\), given float32 \[2",
    ),
    (NotFinite, "by nan"),
]


@pytest.mark.parametrize("name", BACKBONES)
def test_ours_keep_the_contract(name):
    check_backbone(BACKBONES[name](WIDTH))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_users_class_may_keep_it(dtype):
    check_backbone(Fading().to(dtype))
    check_backbone(SlidingWindow(Fading().to(dtype), window=8))


@pytest.mark.parametrize(("kind", "message"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
def test_what_is_wrong_is_named(kind, message):
    with pytest.raises(UsageError, match=message) as info:
        check_backbone(kind())
    assert str(info.value).startswith(kind.__name__)
    assert len(str(info.value).splitlines()) == 1


def test_as_many_tokens_are_tried_as_are_asked_for():
    check_backbone(Positions(), length=8)
    with pytest.raises(UsageError, match=r"forward raised IndexError: index out of .*, given float32 \[2, 9, 6\]"):
        check_backbone(Positions(), length=9)


@pytest.mark.parametrize("length", [2, 3, 64])
def test_any_length_finds_what_is_wrong(length):
    check_backbone(Fading(), length)
    for kind in (SeesTheFuture, EmptyMemory, WrongPrefill):
        with pytest.raises(UsageError, match=CONTRACT):
            check_backbone(kind(), length)


def test_another_base_class_is_refused_with_what_it_lacks():
    message = "Linear is no sequence backbone, and lacks step, initial_memory: subclass torchrl_glam.modules.Sequence"
    with pytest.raises(UsageError, match=message):
        check_backbone(nn.Linear(3, 3))
    message = "Module is no sequence backbone, and lacks forward, step, initial_memory"
    with pytest.raises(UsageError, match=message):
        check_backbone(nn.Module())


def test_errors_of_ours_come_through():
    with pytest.raises(UsageError, match="6 tokens came and max_length is 5"):
        check_backbone(TransformerDynamics(8, max_length=5))


@pytest.mark.parametrize("kind", [Fading, Draws])
def test_nothing_is_left_behind(kind):
    backbone = nn.Sequential(kind()).train()[0]
    backbone.linear.eval()
    weights, state = copy.deepcopy(backbone.state_dict()), torch.get_rng_state()
    try:
        check_backbone(backbone)
    except UsageError:
        assert kind is Draws
    assert torch.equal(torch.get_rng_state(), state)
    assert (backbone.training, backbone.linear.training) == (True, False)
    assert all(torch.equal(value, weights[key]) for key, value in backbone.state_dict().items())
    assert torch.is_grad_enabled()


def test_no_gpu_is_seeded(monkeypatch):
    """``torch.manual_seed`` seeds each, those used later too: every run would draw the same numbers there."""
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    check_backbone(Fading())
    assert seeds == []
