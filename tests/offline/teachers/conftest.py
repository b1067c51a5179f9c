"""Teachers that several tests share."""

from __future__ import annotations

import pytest

from tests.support.teachers import COUNTING, COUNTING_DISCRETE, make_config
from torchrl_glam.offline.teachers import train_teacher


@pytest.fixture(scope="session")
def teachers(tmp_path_factory):
    """A teacher of each kind that has learned a task that counts."""
    made = {}
    for name in (COUNTING, COUNTING_DISCRETE):
        config = make_config(name)
        made[name] = train_teacher(config, tmp_path_factory.mktemp("teachers") / "teacher"), config
    return made
