"""What is said of figures on either side of a threshold."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from torchrl_glam.tools.diagnosis.diagnose import Diagnosis
from torchrl_glam.tools.diagnosis.measures import Calibration, Detection
from torchrl_glam.tools.diagnosis.parts import Dream, Event, FrameErrors, PolicyPart, RewardMeans, VectorErrors
from torchrl_glam.tools.diagnosis.plans import PlansPart
from torchrl_glam.tools.diagnosis.probes import Probes
from torchrl_glam.tools.diagnosis.verdicts import judge, judge_memory


def event(what="non-zero", found=18, said=20, ranking=0.9, step=0, real=20):
    detection = Detection(1000, real, said, found, found, ranking)
    return Event(what, step, detection, detection)


GOOD = Diagnosis(
    number=1000,
    rewarded=20,
    terminated=20,
    context=8,
    threshold=0.5,
    reward=[event(), event(step=8, found=12)],
    means=[RewardMeans(0, 1.0, 1.0, 1.0, 10.0, 9.0, 0.1)],
    ending=[event("termination")],
    probes=Probes(20, 0.9, 0.9, 0.9, 0.9),
    frames=[
        FrameErrors(step, 0.1, {"imagined": 0.01, "context frame": 0.05}, moved)
        for step, moved in {8: {"reconstructed": 0.1, "imagined": 0.11, "context frame": 0.3}, 15: {}}.items()
    ],
    vector=[
        VectorErrors(
            step,
            {"reconstructed": 0.1, "imagined": 0.3, "context frame": 0.8},
            {"reconstructed": [0.1, None, 0.1], "imagined": [0.2, None, 0.4], "context frame": [0.8, None, 0.8]},
        )
        for step in (8, 15)
    ],
    value=Calibration(500, 10.0, 3.0, 10.5, 4.0, 0.8, 1.0, []),
    dream=Dream(512, 16, 1.1, 1.0, 0.02, 0.02, 10.0, []),
    policy=PolicyPart(900, 1.0, 2.0, [0.3, 0.7], [0.5, 0.5]),
)


def vector(**errors):
    """Change the errors of the good vector."""
    return {"vector": [replace(row, whole={**row.whole, **errors}) for row in GOOD.vector]}


CASES = {
    "rewards missed": ("reward", {"reward": [event(found=2, ranking=0.6)]}, "misses most rewards; look at training."),
    "rewards likely": ("reward", {"reward": [event(found=2)]}, "knows when they are likely"),
    "no difference": (
        "reward",
        {"reward": [event(found=2)], "means": [RewardMeans(0, 1.0, 0.1, 1.1, 10.0, 0.15, 0.1)]},
        "predicted 10% of the mean reward .110% expected by the head.s distribution.; how often is known, when is not",
    ),
    "false alarms": ("reward", {"reward": [event(said=100)]}, "precision 0.18, .*rewards that do not come"),
    "lost in imagination": ("reward", {"reward": [event(), event(step=8, found=3)]}, "imagination loses them; look at"),
    "few rewards": ("reward", {"rewarded": 9}, "9 rewards in 1000 steps: too few"),
    "no ends": ("termination", {"terminated": 0}, "none in the 1000 steps"),
    "ends missed": ("termination", {"ending": [event("termination", found=2)]}, "plays on where it should end"),
    "false ends": ("termination", {"ending": [event("termination", said=90)]}, "imagination ends too often"),
    "latents lack": (
        "probes",
        {"probes": Probes(20, 0.9, 0.7, 0.8, 0.8)},
        "frames and vectors show what the latents lack; look at world_model.channels, world_model.encoder.hidden, ",
    ),
    "beliefs lack": ("probes", {"probes": Probes(20, 0.9, 0.9, 0.7, 0.7)}, "latents know what the belief lacks"),
    "the head lacks": ("probes", {"probes": Probes(20, 0.9, 0.9, 0.9, 0.7)}, "the belief knows what the head does not"),
    "nobody knows": ("probes", {"probes": Probes(20, 0.6, 0.6, 0.6, 0.6)}, "no part knows them well"),
    "blind": (
        "frames",
        {"frames": [replace(row, moved=row.moved and {**row.moved, "reconstructed": 0.28}) for row in GOOD.frames]},
        "what moves is not drawn",
    ),
    "adrift": (
        "frames",
        {"frames": [replace(row, moved=row.moved and {**row.moved, "imagined": 0.2}) for row in GOOD.frames]},
        "imagination loses what moves",
    ),
    "no frames": ("frames", {"frames": []}, "^no pixels are observed: nothing to judge$"),
    "no vector": ("vector", {"vector": []}, "^no vector that varies is observed: nothing to judge$"),
    "worst of the vector": ("vector", {}, "the worst dimension 2: 0.40: imagination follows what changes$"),
    "vector not seen": (
        "vector",
        vector(reconstructed=0.7),
        "not in the latents; look at .*world_model.encoder.hidden",
    ),
    "vector adrift": ("vector", vector(imagined=0.7), "imagination loses what changes; look at imagination"),
    "only a vector": (
        "probes",
        {"frames": [], "probes": Probes(20, 0.9, 0.7, 0.8, 0.8)},
        "probe of vectors 0.90.* vectors show what the latents lack; look at world_model.encoder.hidden",
    ),
    "values high": ("value", {"value": Calibration(500, 15.0, 3.0, 10.0, 4.0, 0.8, 1.0, [])}, "they are too high"),
    "values flat": ("value", {"value": Calibration(500, 10.0, 1.0, 10.0, 4.0, 0.8, 3.0, [])}, "differ by too little"),
    "values blind": ("value", {"value": Calibration(500, 10.0, 3.0, 10.0, 4.0, 0.1, 0.1, [])}, "do not tell good"),
    "no critic": ("value", {"value": None}, "no critic of states"),
    "imagines more": ("dream", {"dream": replace(GOOD.dream, reward=2.0)}, "other reward is imagined"),
    "dreams of the contrary": ("dream", {"dream": replace(GOOD.dream, reward=-1.0)}, "other reward is imagined"),
    "dreams too little": ("dream", {"dream": replace(GOOD.dream, reward=0.2)}, "nearer to 0 than the real one"),
    "ends always, and nothing to compare with": (
        "dream",
        {"rewarded": 2, "terminated": 0, "dream": replace(GOOD.dream, ending=0.9739, real_ending=0.0)},
        "nothing to judge by; give more records",
    ),
    "never ends": ("dream", {"dream": replace(GOOD.dream, ending=0.0)}, "it ends too seldom"),
    "uniform": ("policy", {"policy": replace(GOOD.policy, entropy=1.96)}, "nearly uniform"),
    "fixed": (
        "policy",
        {"policy": replace(GOOD.policy, entropy=0.1)},
        "no longer explores; look at agent.entropy",
    ),
    "plans in order": ("plans", {"plans": PlansPart(100, 400, 0.8)}, "400 pairs .* 100 moments, .* 0.80: it knows"),
    "plans at chance": ("plans", {"plans": PlansPart(100, 400, 0.5)}, "0.50: it does not know .* look at world_model."),
    "plans alike": ("plans", {"plans": PlansPart(100, 9, 0.5)}, "earned the same: nothing to judge"),
    "continuous": ("policy", {"policy": replace(GOOD.policy, most=None)}, "continuous actions"),
}


def test_a_good_run_has_nothing_to_look_at():
    assert [part for part, line in judge(GOOD).items() if "look at" in line] == []


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said(name):
    part, changes, wanted = CASES[name]
    found = replace(GOOD, **changes)
    assert re.search(wanted, judge(found)[part])


def test_what_is_learnt_by_heart():
    assert "no sign" in judge_memory(GOOD, GOOD)
    assert "learned by heart; look at" in judge_memory(GOOD, replace(GOOD, reward=[event(found=5)]))
    assert "too few to compare" in judge_memory(GOOD, replace(GOOD, rewarded=3))
