"""Runs of training with the layer-wise optimisers: they go on after a stop with the same bits; they diverge by name."""

from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from test_resume import differ, ended, stopped

from gapscope.optim.cblr import CBLR
from gapscope.optim.fused import FusedOptimizer

OWN: dict[str, dict[str, Any]] = {
    "lars": {"name": "lars"},
    "lamb": {"name": "lamb"},
    "percent_delta": {"name": "percent_delta"},
    "mclr": {"name": "mclr"},
    "cblr": {"name": "cblr", "settings": {"images": 8, "average": 0.9, "damping": 1.0, "cap": 1.0}},
    "exact": {"name": "cblr", "settings": {"images": 4, "diagonal": "exact", "damping": 1.0, "cap": 1.0}},
    "eq17": {"name": "cblr", "settings": {"radius": "eq17"}},
}
RATES = {"lr_start": 0.01, "lr_end": 0.001}


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        *((case, fault) for case in OWN for fault in ("none", "tensors")),
        *((case, "numbers") for case in ("cblr", "exact")),  # the others count nothing
    ],
)
def test_a_stopped_run_goes_on_with_the_same_bits(
    tmp_path: Path, case: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ended(**OWN[case], **RATES)
    checkpoint = stopped(tmp_path / "checkpoint", 13, **OWN[case], **RATES)
    if fault == "tensors":
        monkeypatch.setattr(FusedOptimizer, "restore", lambda *_: None)
    if fault == "numbers":
        monkeypatch.setattr(CBLR, "restore", FusedOptimizer.restore)
    assert differ(ended(checkpoint, **OWN[case], **RATES), known) == (fault != "none")


def test_a_step_that_is_not_finite_is_recorded_as_divergence() -> None:
    own = {"name": "cblr", "settings": {"radius": "eq9", "damping": 0.0}}
    assert runs.run(runs.network(), **own, lr_start=1.0).status == "diverged"
    assert runs.run(runs.network(), **OWN["lars"], **RATES).status == "ok"


@pytest.mark.parametrize("case", OWN)
def test_a_frozen_layer_stays(case: str) -> None:
    model = runs.network()
    model.dense[0].weight.requires_grad_(False)
    frozen, moved = model.dense[0].weight.clone(), model.head.weight.clone()
    runs.run(model, **OWN[case], **RATES)
    assert torch.equal(model.dense[0].weight, frozen)
    assert not torch.equal(model.head.weight, moved)


@pytest.mark.gpu
@pytest.mark.parametrize("case", [case for case in OWN if case not in {"cblr", "exact"}])
def test_updates_as_cuda_graphs_are_those_without(case: str) -> None:
    found = []
    for graphs in (True, False):
        model, settings = runs.network(dropout=0.0), runs.changed(**OWN[case], **RATES, cuda_graphs=graphs)
        from gapscope.training.loop import train

        result = train(model, runs.data(), settings, batch_size=20, epochs=3, seed=3, device="cuda")
        assert "without_cuda_graphs" not in result.final
        found.append([p.detach().cpu() for p in model.parameters()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)  # the rate is in float32
