"""Options that a run could not read again are refused before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from torchrl_glam.config import GLAMConfig
from torchrl_glam.config.checks import check_values
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.folder import write_options
from torchrl_glam.runs.foreign import read_yaml


@dataclass
class Part:
    """Options of a part."""

    kwargs: dict[str, Any] = field(default_factory=dict)


NAMES = ["run_dir", "init_from", "env.name", "resume", "ablation"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["runs/${seed}", r"a\${b}", "a\tb", "a\nb", "\x7f", "\ud800"])
def test_a_text_that_cannot_be_read_again_is_refused(name, text):
    config = GLAMConfig()
    *groups, last = name.split(".")
    setattr(getattr(config, groups[0]) if groups else config, last, text)
    with pytest.raises(UsageError, match=rf"^{name}=.* (holds \$\{{|has control characters)") as error:
        check_values(config)
    assert len(str(error.value).splitlines()) == 1


def test_so_are_texts_in_lists_and_dictionaries():
    config = GLAMConfig(init_parts=["actor", "${x}"])
    with pytest.raises(UsageError, match=r"^init_parts=\$\{x} holds"):
        check_values(config)
    with pytest.raises(UsageError, match=r"^kwargs\.a=\$\{x} holds"):
        check_values(Part({"a": [{"b": 1}, "${x}"]}))


@pytest.mark.parametrize("text", ["a$b", "$HOME", "{a}", "größe", "a b", "it's", "#1", "a: b"])
def test_what_is_let_through_can_be_read_again(text, tmp_path):
    config = GLAMConfig(run_dir=text)
    check_values(config)
    write_options(tmp_path, config)
    assert read_yaml(tmp_path / "config.yaml")["run_dir"] == text
