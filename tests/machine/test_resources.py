"""The share of the machine that a process may use."""

from __future__ import annotations

from torchrl_glam.machine import resources


def test_a_control_group_limits_memory_and_cores(tmp_path, monkeypatch):
    group = tmp_path / "outer" / "inner"
    group.mkdir(parents=True)
    monkeypatch.setattr(resources, "CGROUPS", tmp_path)
    monkeypatch.setattr(resources, "OWN_GROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("4:memory:/else\n0::/outer/inner\n")
    for name, values in {
        "memory.max": ("max", 10**8),
        "memory.current": (7, 4 * 10**7),
        "cpu.max": ("max 100000", "50000 100000"),
    }.items():
        for folder, value in zip((group, group.parent), values, strict=True):
            (folder / name).write_text(f"{value}\n")
    assert resources.available_memory() == 6 * 10**7
    assert len(resources.usable_cores()) == 1
    (group.parent / "memory.current").write_text("200000000")
    assert resources.available_memory() == 0
