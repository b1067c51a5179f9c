"""Classes by import path: whatever goes wrong in somebody's module ends in one line that leads them there."""

from __future__ import annotations

import sys

import pytest
from torchrl.objectives import LossModule

from torchrl_glam.errors import UsageError
from torchrl_glam.modules import SequenceBackbone
from torchrl_glam.training.imports import import_class, make_module

HEAD = "from torchrl.objectives import LossModule\n"
TYPE, PLACE = "TypeError: MyLoss.__init__()", r"\(\S*my_losses.py, line 4\)"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function that makes the loss that a module of this text holds."""

    def make_loss(body, **kwargs):
        (tmp_path / "my_losses.py").write_text(HEAD + body)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "my_losses", raising=False)
        loss = import_class("objective", "my_losses.MyLoss", LossModule)
        return make_module("objective", "my_losses.MyLoss", loss, 1, 2, 3.0, **kwargs)

    yield make_loss
    sys.modules.pop("my_losses", None)


def define(init):
    return f"class MyLoss(LossModule):\n    def __init__(self, *args, **kwargs):\n        {init}\n"


MADE = r"objective=my_losses.MyLoss cannot be made as MyLoss\(int, int, float, share=...\): "
WRONG = {
    "not a module": ("MyLoss = 1\n", "is no subclass of torchrl.*LossModule"),
    "raises while imported": ("\n\nx = {}['gone']\n", f"be imported .*: KeyError: 'gone' {PLACE}$"),
    "is no Python": ("\n\nclass MyLoss(:\n", r"be imported .*: SyntaxError: invalid syntax \(my_losses.py, line 4\)$"),
    "is not there": ("", r"be imported \(give package.module.Class\): AttributeError: .*no attribute 'MyLoss'$"),
    "raises": (define("raise KeyError('mean\\nstd')"), MADE + r"KeyError: .*\(\S*my_losses.py, line 4\)$"),
    "raises without a word": (define("assert not args"), MADE + f"AssertionError {PLACE}$"),
    "raises in many lines": (define("raise OSError('no\\nfile')"), MADE + f"OSError: no {PLACE}$"),
    "raises in a library": (define("__import__('torch').zeros(2) @ args"), MADE + rf"TypeError: .* {PLACE}$"),
    "takes other arguments": (
        "class MyLoss(LossModule):\n    def __init__(self, actor):\n        super().__init__()\n",
        MADE + r"TypeError: MyLoss.__init__\(\) got an unexpected keyword argument 'share'$",
    ),
    "forgets super": (define("self.share = kwargs"), r"is no module: call super\(\).__init__ in MyLoss.__init__$"),
    "assigns before super": (
        define("self.share = __import__('torch').nn.Linear(1, 1)"),
        MADE + f"AttributeError: cannot assign module before Module.__init__.* {PLACE}$",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_ends_in_one_line_that_leads_there(make, name):
    text, message = WRONG[name]
    with pytest.raises(UsageError, match=message) as refused:
        make(text, share=0.5)
    assert "\n" not in str(refused.value)


def test_a_class_that_is_right_is_made_of_the_arguments(make):
    loss = make(define("super().__init__(); self.given = args, kwargs"), share=0.5)
    assert loss.given == ((1, 2, 3.0), {"share": 0.5})


def test_a_module_that_cannot_be_found():
    with pytest.raises(UsageError, match=r"dynamics=nowhere.Class .*: ModuleNotFoundError: No module named 'nowhere'$"):
        import_class("dynamics", "nowhere.Class", SequenceBackbone)


def test_a_name_that_a_library_spells_otherwise():
    with pytest.raises(UsageError, match=r"AttributeError: module 'torchrl.objectives' has no attribute 'PPOLos'$"):
        import_class("objective", "torchrl.objectives.PPOLos", LossModule)
