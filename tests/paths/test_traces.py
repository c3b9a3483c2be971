"""What is kept of a path of any length."""

import pytest
import torch

from lightning_modules.paths.traces import Trace


def walked(steps: int, trace: Trace | None = None, first: int = 1) -> Trace:
    """A trace of the points 0, 1, 2, ... at times half as large."""
    trace = trace or Trace(8, torch.zeros(1))
    for step in range(first, steps):
        trace.add(step / 2, torch.tensor([float(step)]))
    return trace


@pytest.mark.parametrize("steps", [2, 8, 9, 10, 17, 1000])
def test_points_kept_are_equally_far_apart_few_and_end_with_the_last(steps: int) -> None:
    trace = walked(steps)
    gaps = trace.points.flatten().diff()
    assert len(set(gaps[:-1].tolist())) <= 1
    assert len(trace.times) <= 9
    assert trace.points[-1] == steps - 1
    assert torch.equal(2 * trace.times, trace.points.flatten().double())


@pytest.mark.parametrize("stop", range(1, 40))
def test_a_trace_goes_on_from_its_state_as_if_it_had_never_stopped(stop: int) -> None:
    resumed = Trace(8, torch.zeros(1))
    resumed.load_state_dict(walked(stop).state_dict())
    resumed, whole = walked(45, resumed, first=stop), walked(45)
    assert torch.equal(resumed.points, whole.points)
    assert torch.equal(resumed.times, whole.times)
