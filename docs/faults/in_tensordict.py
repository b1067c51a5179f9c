"""Faults of tensordict that this package works around: ``python docs/faults/in_tensordict.py [NAME ...]``.

Each function returns True while the fault is there. Versions: docs/torchrl_facts.md.
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
import sys
import tempfile
from pathlib import Path

import torch
from shown import main
from tensordict import NonTensorData, TensorDict
from tensordict.nn import CudaGraphModule, NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import A2CLoss


def extractors_read_a_number() -> bool:
    """``NormalParamExtractor(scale_lb=...)`` cannot be made on the device ``meta``."""
    try:
        with torch.device("meta"):
            NormalParamExtractor(scale_lb=0.1)
    except Exception:
        return True
    return False


def loading_unpickles() -> bool:
    """``TensorDict.load`` unpickles ``other.pickle`` of a folder, which may run anything."""

    class Bomb:
        def __reduce__(self) -> tuple:
            return exec, ("import sys; sys.bomb = True",)

    with tempfile.TemporaryDirectory() as folder:
        TensorDict({"x": torch.zeros(2), "note": NonTensorData(object())}, []).memmap(folder)
        for file in Path(folder).rglob("other.pickle"):
            file.write_bytes(pickle.dumps(Bomb()))
        with contextlib.suppress(Exception):  # what came out is no tensordict, but it has been run
            TensorDict.load_memmap(folder)
    return getattr(sys, "bomb", False)


def missing_keys_are_not_missed() -> bool:
    """A loss takes a state without an entry of its functional network, as ``load_state_dict(strict=True)`` too."""
    critic = ValueOperator(nn.Linear(1, 1))
    actor = TensorDictModule(nn.Linear(1, 2), ["observation"], ["logits"])
    loss = A2CLoss(ProbabilisticActor(actor, ["logits"], distribution_class=OneHotCategorical), critic)
    state = loss.state_dict()
    del state[next(key for key in state if key.endswith("weight"))]
    try:
        loss.load_state_dict(state)
    except RuntimeError:
        return False
    return True


def modules_look_for_pandas() -> bool:
    """Each output of a ``TensorDictModule`` looks for pandas on the disk, if that has not been imported."""
    looked = []

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            looked.append(name)

    module = TensorDictModule(nn.Identity(), ["x"], ["y"])
    finder, pandas = Finder(), sys.modules.pop("pandas", None)
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        module(TensorDict({"x": torch.zeros(1)}, []))
        module(TensorDict({"x": torch.zeros(1)}, []))
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        if pandas is not None:
            sys.modules["pandas"] = pandas
    return looked.count("pandas") > 1


def cuda_graphs_are_waited_for() -> bool:
    """``CudaGraphModule`` waits for the GPU at every replay (read off its source, so without a GPU)."""
    return "cuda.synchronize(" in inspect.getsource(CudaGraphModule)


if __name__ == "__main__":
    main(dict(globals()))
