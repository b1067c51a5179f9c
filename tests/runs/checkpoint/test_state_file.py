"""State files: what goes in comes out, bit for bit, and nothing else ever runs or half exists."""

from __future__ import annotations

import errno
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.checkpoint import read_state, write_state
from torchrl_glam.runs.files import check_sums, write_sums, write_whole
from torchrl_glam.training.state import load_optimizer, load_own_state, own_state


def test_a_nested_state_comes_back_with_its_types(tmp_path):
    state = {
        "tensors": [torch.arange(6).view(2, 3).T, torch.tensor(1.5), torch.empty(0, 3), torch.tensor([True])],
        0: {"lr": 1e-3, "betas": (0.9, 0.999), "fused": None, "text": "é", "flag": False},
        "nested": OrderedDict(a=(), b=[{}]),
        "huge": 2**70,
        "nan": float("inf"),
    }
    write_state(tmp_path / "s", state)
    back = read_state(tmp_path / "s")
    assert all(torch.equal(one, other) for one, other in zip(back.pop("tensors"), state.pop("tensors"), strict=True))
    assert back == state
    assert isinstance(back[0]["betas"], tuple)


def test_an_optimizer_resumes_from_a_state_file(tmp_path):
    def make() -> tuple[nn.Linear, torch.optim.Adam]:
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        return layer, torch.optim.Adam(layer.parameters(), fused=True)

    def step(layer: nn.Linear, optimizer: torch.optim.Adam) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    (layer, optimizer), (other, restored) = make(), make()
    step(layer, optimizer)
    write_state(tmp_path / "s", {"layer": layer.state_dict(), "optimizer": optimizer.state_dict()})
    state = read_state(tmp_path / "s")
    other.load_state_dict(state["layer"])
    restored.load_state_dict(state["optimizer"])
    step(layer, optimizer)
    step(other, restored)
    assert torch.equal(layer.weight, other.weight)


def test_memory_that_is_shared_is_written_once(tmp_path):
    tensor = torch.zeros(100_000)
    write_state(tmp_path / "s", {"one": tensor, "other": tensor, "part": tensor[:10]})
    assert (tmp_path / "s").stat().st_size < 1.1 * 400_000
    assert read_state(tmp_path / "s")["part"].shape == (10,)


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, b"bytes"])
def test_what_could_run_is_not_written(tmp_path, value):
    with pytest.raises(TypeError, match="cannot be written"):
        write_state(tmp_path / "s", {"value": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x80\x04K\x01.", b"\xff" * 64], ids=["empty", "json", "pickle", "noise"]
)
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(DamagedError, match="s is damaged"):
        read_state(tmp_path / "s")


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "s"
    write_state(path, {"weight": torch.arange(50), "number": 1})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            read_state(path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "s"
    path.write_text("before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_sums_tell_every_changed_bit_and_every_stray_file(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b"):
        (tmp_path / name).write_bytes(b"0123")
    write_sums(tmp_path)
    check_sums(tmp_path)
    for name in ("a", "sub/b"):
        (tmp_path / name).write_bytes(b"0122")
        with pytest.raises(DamagedError, match=f"^{name} is damaged$"):
            check_sums(tmp_path)
        (tmp_path / name).write_bytes(b"0123")
    (tmp_path / "c").touch()
    with pytest.raises(DamagedError, match="c does not belong there"):
        check_sums(tmp_path)
    (tmp_path / "c").unlink()
    (tmp_path / "a").unlink()
    with pytest.raises(DamagedError, match="a is missing"):
        check_sums(tmp_path)


def test_the_state_of_a_part_leaves_out_what_is_saved_elsewhere():
    inner = nn.Linear(2, 2)
    outer = nn.Sequential(inner, nn.BatchNorm1d(2))
    state = {name: entry.clone() for name, entry in own_state(outer, [inner]).items()}
    assert set(state) == {f"1.{name}" for name in outer[1].state_dict()}
    outer(torch.randn(8, 2))
    place = outer[1].running_mean.data_ptr()
    load_own_state(outer, [inner], state)
    assert torch.equal(outer[1].running_mean, torch.zeros(2))
    assert outer[1].running_mean.data_ptr() == place  # in place, where a captured graph reads it
    with pytest.raises(DamagedError, match="other entries"):
        load_own_state(outer, [inner], {})


def test_the_state_of_an_optimizer_of_other_parameters_is_noticed_before_a_step():
    def state(*sizes: int) -> dict[str, Any]:
        layers = nn.Sequential(*(nn.Linear(size, 2) for size in sizes))
        optimizer = torch.optim.Adam(layers.parameters())
        sum(parameter.sum() for parameter in layers.parameters()).backward()
        optimizer.step()
        return optimizer.state_dict()

    optimizer = torch.optim.Adam(nn.Linear(3, 2).parameters())
    load_optimizer(optimizer, state(3))
    for other in (state(2), state(3, 3), {"state": {}}, {**state(3), "state": {5: {}, 0: {"exp_avg": 1}}}, []):
        with pytest.raises(DamagedError, match="state of the optimizer has"):
            load_optimizer(optimizer, other)
