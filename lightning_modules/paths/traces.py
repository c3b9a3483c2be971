"""Positions over the steps of a run of unknown length, in bounded memory."""

from typing import Any

import torch
from torch import Tensor


class Trace:
    """Points at steps 0, k, 2k, ... and the last, with k doubled whenever there are more than `most`.

    What is kept depends on the number of steps alone, so a resumed run keeps the same.

    Args:
        most: Points kept beside the last, at least 2.
        first: The point at time 0.

    >>> trace = Trace(3, torch.tensor([0]))
    >>> for step in range(1, 6):
    ...     trace.add(float(step), torch.tensor([step]))
    >>> trace.times.tolist(), trace.points.flatten().tolist()
    ([0.0, 2.0, 4.0, 5.0], [0, 2, 4, 5])
    """

    def __init__(self, most: int, first: Tensor) -> None:
        self.most = most
        self.time, self.last = 0.0, first.clone()
        self._every, self._count = 1, 1
        self._times, self._points = [self.time], [self.last]

    def add(self, time: float, point: Tensor) -> None:
        """The next step's time, and its point of the first one's shape."""
        self.time, self.last = time, point.clone()
        if self._count % self._every == 0:
            self._times.append(self.time)
            self._points.append(self.last)
            if len(self._times) > self.most:
                self._times, self._points, self._every = self._times[::2], self._points[::2], 2 * self._every
        self._count += 1

    @property
    def times(self) -> Tensor:
        """Of the points kept, float64 (n,)."""
        return torch.tensor(self._times + [self.time] * self._is_beyond, dtype=torch.float64)

    @property
    def points(self) -> Tensor:
        """The points kept, (n, ...)."""
        return torch.stack(self._points + [self.last] * self._is_beyond)

    @property
    def _is_beyond(self) -> bool:
        return self.time > self._times[-1]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"every": self._every, "count": self._count, "times": self.times, "points": self.points}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another trace was."""
        self._every, self._count = state["every"], state["count"]
        self._times, self._points = state["times"].tolist(), list(state["points"].unbind(0))
        self.time, self.last = self._times[-1], self._points[-1]
        if (self._count - 1) % self._every:  # the last point is kept by nothing but its being last
            self._times.pop()
            self._points.pop()
