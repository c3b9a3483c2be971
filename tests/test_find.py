"""`taolu find`: the range test on real optimizers, and the space it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.build import build_parts
from experiments.cli import main
from experiments.config import resolve
from experiments.design import read_design
from experiments.find import Finding, Rung, settings_of
from experiments.ramp import HIGHEST_LR, LOWEST_LR, RAMP_STEPS, Ramp, left_the_ground, range_test
from experiments.rehearsal import stage
from experiments.steepness import Steepness
from lightning_modules.dynamics import Interval

HERE = Path(__file__).parent
TWO = f"{HERE / 'user_net.py'}:TwoNets"


def ramp_of(target: str, **options: Any) -> Ramp:
    config = resolve(target, overrides={key.replace("__", "."): value for key, value in options.items()})
    with stage() as place:
        return range_test(place, config, build_parts(config), Steepness(0.1, 0))


def finding(*rungs: Rung, ramp: Ramp, noise: float | None = None, limit: float | None = None) -> Finding:
    scale = None if noise is None else Interval(noise, noise, noise)
    return Finding("x", ramp, limit, scale, rungs, (), "optimizer.lr", 0.1, 32)


FALLING = Ramp(tuple(10.0**-k for k in range(5, -3, -1)), (9.0, 8.0, 6.0, 3.0, 1.0, 0.1, 0.0, -0.5), False)


def test_everything_is_found_and_the_space_can_be_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "around.yaml"
    words = ["--model.network", "softmax", "--model.loss", "mse", "--seed", "1"]
    assert main(["find", "classifier", *words, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.02 < found["suggestion"]["lr"] <= found["lr_limit"] / 2
    assert found["lr_lowest_loss"] < found["lr_diverged"] < HIGHEST_LR
    assert 1 < found["noise_scale"]["estimate"] < 1e4
    assert list(found["throughput"]) == ["8", "16", "32", "64", "128", "256", "512", "1024"]
    assert len(found["ramp"]) < RAMP_STEPS
    design = read_design(str(out))
    assert design.settings == {"model.network": "softmax", "model.loss": "mse", "seed": 1}
    assert design.space.keys == {"optimizer.lr", "data.batch_size"}
    for point in design.space.samples():
        design.config(point)
    assert out.read_text(encoding="utf-8").startswith("# Why: classifier: lr ")


def test_the_rates_rise_in_equal_ratios_until_the_loss_diverges() -> None:
    ramp = ramp_of("classifier", optimizer="momentum", optimizer__lr=0.3)
    ratios = [b / a for a, b in zip(ramp.lrs, ramp.lrs[1:], strict=False)]
    assert ramp.lrs[0] == LOWEST_LR
    assert ratios == pytest.approx([(HIGHEST_LR / LOWEST_LR) ** (1 / (RAMP_STEPS - 1))] * len(ratios))
    assert ramp.diverged
    assert ramp.lowest is not None
    assert 0.01 < ramp.lowest < 1


def test_the_given_rate_decides_nothing() -> None:
    assert ramp_of("classifier", optimizer__lr=1e-4).losses == ramp_of("classifier", optimizer__lr=0.9).losses


def test_two_optimizers_by_hand_keep_the_ratio_of_their_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []
    step = torch.optim.SGD.step

    def note(self: torch.optim.SGD, closure: Any = None) -> Any:
        seen.append(tuple(group["lr"] for group in self.param_groups))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", note)
    ramp = ramp_of(TWO, optimizer="torch.SGD", optimizer__lr=0.1, critic_optimizer__lr=0.4)
    first, second = seen[::2], seen[1::2]
    assert [lr for (lr,) in first] == pytest.approx(ramp.lrs)
    assert [lr for (lr,) in second] == pytest.approx([4 * lr for lr in ramp.lrs])


def test_a_scheduler_of_the_modules_own_does_not_bend_the_ramp() -> None:
    assert ramp_of(f"{HERE / 'broken_net.py'}:EpochEnd", trainer__limit_train_batches=5).lrs[-1] > 0.1


def test_accumulated_batches_are_one_step_with_their_mean_loss() -> None:
    one, four = ramp_of("classifier"), ramp_of("classifier", trainer__accumulate_grad_batches=4)
    assert four.losses[0] == pytest.approx(one.losses[0], rel=0.1)
    assert len(four.losses) == pytest.approx(len(one.losses), abs=15)


def test_a_step_without_a_loss_and_one_that_raises_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (HERE / "broken_net.py").read_text(encoding="utf-8")
    (tmp_path / "mute.py").write_text(text.replace("return loss.detach()", "return None"), encoding="utf-8")
    assert main(["find", f"{tmp_path / 'mute.py'}:Fresh"]) == 2
    assert "Fresh.training_step returns no loss to judge lr by" in capsys.readouterr().err
    assert main(["find", f"{HERE / 'broken_net.py'}:Raising"]) == 2
    assert "the fourth batch is cursed" in capsys.readouterr().err


# ---- suggestions ----------------------------------------------------------------------------------------------------


def test_a_third_of_the_lowest_and_half_of_the_stable_rate_are_suggested() -> None:
    ramp = Ramp(tuple(10 ** (k / 20) for k in range(-100, 0)), tuple(100 - k for k in range(100)), diverged=False)
    assert ramp.lowest == ramp.lrs[-1]
    assert finding(ramp=ramp).suggested_lr == pytest.approx(ramp.lrs[-1] / 3)
    assert finding(ramp=ramp, limit=0.01).suggested_lr == pytest.approx(0.005)


def test_a_noise_scale_of_every_row_has_no_interval() -> None:
    assert "noise scale   50 rows (exact: of every row)" in finding(ramp=FALLING, noise=50.0).lines()


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    flat = Ramp((1.0, 2.0, 3.0, 4.0), (1.0, 1.1, 0.9, 1.05), diverged=False)
    assert (flat.lowest, finding(ramp=flat).space()) == (None, {})


@pytest.mark.parametrize(("noise", "batch"), [(None, 64), (70.0, 64), (5.0, 8), (1e5, 256)])
def test_the_batch_follows_the_noise_scale_else_the_speed(noise: float | None, batch: int) -> None:
    rungs = [Rung(size, speed) for size, speed in ((8, 100.0), (32, 390.0), (64, 500.0), (256, 900.0))]
    found = finding(*rungs, ramp=FALLING, noise=noise)
    assert found.suggested_batch == batch
    assert batch in found.space()["data.batch_size"]


def test_leaving_the_ground_takes_more_than_the_loss_had_fallen() -> None:
    falls = [5.0 - 0.1 * i for i in range(40)]
    assert not left_the_ground([*falls, 2.0])
    assert not left_the_ground([*falls, *[4.0] * 20])
    assert left_the_ground([*falls, *[20.0] * 20])
    assert left_the_ground([math.nan])


def test_another_class_comes_with_what_differs_from_its_own_defaults() -> None:
    config = resolve("classifier", ["--optimizer", "momentum", "--optimizer.beta", "0.5", "--optimizer.lr", "0.2"])
    found = settings_of(config, "classifier", {"optimizer.lr": [1]})
    assert found == {"optimizer": "momentum", "optimizer.beta": 0.5}
    assert "optimizer.lr" in settings_of(config, "classifier", {})


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name the experiment first: taolu find classifier|"),
        ("clasifier", "unknown experiment 'clasifier' (did you mean 'classifier'?)"),
        ("classifier --optimizer.lr abc", "optimizer.lr = abc: must be a number"),
        ("classifier --out", "--out: needs a value"),
        ("classifier --out x.json", "taolu sweep reads YAML; name it x.yaml"),
        ("classifier --out there.yaml", "--out there.yaml: is there already"),
        ("classifier --out nowhere/x.yaml", "there is no folder nowhere"),
        ("classifier --store x", "unknown option '--store'"),
    ],
)
def test_bad_input_costs_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").write_text(yaml.safe_dump({"mine": 1}))
    assert main(["find", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), message in err) == ("", 1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
