"""An optimizer's path as a moving ball, beside the ball that its differential equation moves: over a map, or a hump.

Arrays are those of a run's paths.npz: n points of D coordinates, D = 1 or 2; a map of (n_lr, n_beta) cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.charts import EQUATION, LAYOUT, MINIMUM, PATH, PATH_ARRAYS, contour, drawable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

Arrays = Mapping[str, np.ndarray]
MAP_ARRAYS = frozenset({"lr", "beta", "basin", "loss", "cell_step", "cell_theta"})
FRAMES, FRAME_MS = 60, 60  # of the film, and how long each is shown
POINTS = 120  # of a line in a frame: each frame has a line of its own
REST, LONGER = 0.005, 1.2  # nearer to its end, as a share of the landscape, nothing is seen to move; the time shown
FAR = 1e30  # beyond every landscape, within float32
TOLERANCE = 1e-3  # of a time that is lr for each step


def is_path(arrays: Arrays) -> bool:
    """Whether the arrays fit one another, as those of paths.npz do."""
    if not arrays.keys() >= PATH_ARRAYS:
        return False
    theta, x = arrays["theta"], arrays["x"]
    dim = theta.shape[1] if theta.ndim == 2 else 0
    axes = [x] if dim == 1 else [arrays.get("y", np.empty(0)), x]
    return bool(
        dim in (1, 2)
        and all(np.issubdtype(array.dtype, np.number) for array in arrays.values())
        and _is_line(arrays["t"], theta, dim)
        and _is_line(arrays["ode_t"], arrays["ode_theta"], dim)
        and arrays["minima"].shape[1:] == (dim,)
        and all(_is_rising(axis) and len(axis) > 1 for axis in axes)
        and arrays["L"].shape == tuple(map(len, axes))
        and np.isfinite(arrays["L"]).all()
    )


def is_map(arrays: Arrays) -> bool:
    """Whether there is a map whose cells have paths of their own."""
    if not arrays.keys() >= MAP_ARRAYS:
        return False
    lr, beta, steps = arrays["lr"], arrays["beta"], arrays["cell_step"]
    shape = (lr.size, beta.size)
    return bool(
        _is_rising(lr)
        and lr.size
        and beta.ndim == 1
        and beta.size
        and arrays["basin"].shape == arrays["loss"].shape == shape
        and _is_rising(steps)
        and steps.size
        and arrays["cell_theta"].shape == (*shape, steps.size, arrays["theta"].shape[1])
    )


def of_cell(arrays: Arrays, row: int, column: int, lr: float | None) -> dict[str, np.ndarray]:
    """The arrays, a cell's path in place of the run's own.

    The solution of an equation without friction, on its time lr * step, is that of every cell. One with friction is
    known for the run's own settings alone: for a cell it is left out, (0, D), and time counts steps.

    Args:
        arrays: with a map.
        row: of its learning rates.
        column: of its betas.
        lr: the run's own, None where unknown.
    """
    steps, ode_t, ode = arrays["cell_step"].astype(float), arrays["ode_t"], arrays["ode_theta"]
    end = steps[-1] * (lr or np.nan)
    is_shared = bool(abs(arrays["t"][-1] - end) < TOLERANCE * end)
    times = steps * float(arrays["lr"][row]) if is_shared else steps
    kept = (ode_t <= times[-1]) if is_shared else np.zeros(len(ode_t), bool)
    line = {"t": times, "theta": arrays["cell_theta"][row, column].astype(float)}
    return {**arrays, **line, "ode_t": ode_t[kept], "ode_theta": ode[kept]}


def motion_chart(arrays: Arrays, words: Mapping[str, str]) -> Figure:
    """A film: both balls over the landscape seen from above, or on the curve of the loss where it has one coordinate.

    Before it is played its end is shown, soon after both have come to rest.

    Args:
        arrays: of a path.
        words: motion_title, optimizer, equation, minimum, time, play.
    """
    from plotly.graph_objects import Figure, Frame, Scatter

    ends = np.linspace(0, _end(arrays), FRAMES)
    still = contour(arrays, words) if "y" in arrays else _curve(arrays, words)
    figure = Figure([*still, *_balls(arrays, ends[-1], words)])
    frames, moving = [], list(range(len(still), len(figure.data)))
    for end in ends:  # a frame says only what is new in it
        places = [Scatter(x=_single(x), y=_single(y)) for x, y in _places(arrays, end)]
        frames.append(Frame(data=places, name=f"{end:.4g}", traces=moving))
    figure.frames = frames
    figure.update_layout(**LAYOUT, title_text=words["motion_title"], height=480, **_controls(ends, words))
    figure.update_layout(margin_t=72)  # the title above the legend
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"})
    for axis, name in (("x", "x"), ("y", "y" if "y" in arrays else "L")):
        figure.update_layout({f"{axis}axis": {"title": {"text": name}, "showgrid": False, "zeroline": False}})
    low, high = arrays["x"][[0, -1]].astype(float)
    figure.update_xaxes(range=[low, high])
    if "y" in arrays:
        figure.update_yaxes(range=arrays["y"][[0, -1]].astype(float).tolist())
    return figure


def _end(arrays: Arrays) -> float:
    """The time of the film's end."""
    size = max(np.ptp(arrays[axis]) for axis in ("x", "y") if axis in arrays)
    ends = [0.0]
    for times, points in ((arrays["t"], arrays["theta"]), (arrays["ode_t"], arrays["ode_theta"])):
        if len(points):
            with np.errstate(invalid="ignore", over="ignore"):
                is_resting = np.abs(points - points[-1]).max(1) < REST * size
            moving = np.flatnonzero(~is_resting)  # what is nowhere rests nowhere
            ends.append(min(float(times[-1]), LONGER * float(times[moving[-1]])) if len(moving) else 0.0)
    return max(ends)


def _is_line(times: np.ndarray, points: np.ndarray, dim: int) -> bool:
    return len(points) > 0 and points.shape == (times.size, dim) and _is_rising(times)


def _is_rising(values: np.ndarray) -> bool:
    return values.ndim == 1 and bool(np.isfinite(values).all()) and bool((np.diff(values) >= 0).all())


def _curve(arrays: Arrays, words: Mapping[str, str]) -> list[Scatter]:
    """The loss over its one coordinate, and its minima."""
    from plotly.graph_objects import Scatter

    low = arrays["minima"][:, 0]
    marker = {"symbol": "x", "size": 9, "color": MINIMUM}
    line = {"color": "#888888", "width": 2}
    return [
        Scatter(
            x=arrays["x"], y=drawable(arrays["L"].astype(float)), mode="lines", line=line, showlegend=False, name="L"
        ),
        Scatter(x=low, y=_height(arrays, low), mode="markers", marker=marker, name=words["minimum"]),
    ]


def _balls(arrays: Arrays, end: float, words: Mapping[str, str]) -> list[Scatter]:
    """Each path up to a time as a line that ends in a ball; on the curve of a loss, a ball alone."""
    from plotly.graph_objects import Scatter

    traces = []
    for (x, y), (word, color, size) in zip(_places(arrays, end), _balls_of(arrays), strict=True):
        marker: dict[str, Any] = {"size": [*[0] * (len(x) - 1), size], "color": color}
        line = {"color": color, "width": 2}
        traces.append(Scatter(x=x, y=y, mode="lines+markers", line=line, marker=marker, name=words[word]))
    return traces


def _balls_of(arrays: Arrays) -> list[tuple[str, str, int]]:
    """Word, colour and size in pixels of each ball, the equation's below."""
    balls = [("equation", EQUATION, 17), ("optimizer", PATH, 12)]
    return balls if len(arrays["ode_t"]) else balls[1:]


def _places(arrays: Arrays, end: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both coordinates of each line up to a time; on the curve of a loss, of its end."""
    is_plane = "y" in arrays
    moments = np.linspace(0, end, POINTS) if is_plane else np.array([end])
    found = []
    for times, points in ((arrays["ode_t"], arrays["ode_theta"]), (arrays["t"], arrays["theta"])):
        if len(points):
            x, *y = (drawable(np.interp(moments, times, coordinate)) for coordinate in points.T)
            found.append((x, y[0] if is_plane else _height(arrays, x)))
    return found


def _single(values: np.ndarray) -> np.ndarray:
    """Half the bytes, for there are many; what is far outside stays so."""
    return np.asarray(np.clip(values, -FAR, FAR), np.float32)


def _height(arrays: Arrays, x: np.ndarray) -> np.ndarray:
    """The loss at each x, NaN outside of what is stored."""
    return np.asarray(np.interp(x, arrays["x"], drawable(arrays["L"].astype(float)), left=np.nan, right=np.nan))


def _controls(ends: np.ndarray, words: Mapping[str, str]) -> dict[str, Any]:
    """A button that plays the film, and a slider over its times."""
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    film = {**at_once, "frame": {"duration": FRAME_MS, "redraw": False}, "fromcurrent": False}
    button = {"label": f"▶ {words['play']}", "method": "animate", "args": [None, film]}
    steps = [{"label": f"{end:.4g}", "method": "animate", "args": [[f"{end:.4g}"], at_once]} for end in ends]
    place = {"y": -0.16, "yanchor": "top"}
    menu = {"type": "buttons", "buttons": [button], "showactive": False, "x": 0, "xanchor": "left", **place}
    slider: dict[str, Any] = {
        "steps": steps,
        "active": len(ends) - 1,
        "x": 0.3,
        "len": 0.7,
        "y": -0.1,
        "yanchor": "top",
    }
    slider |= {"ticklen": 0, "minorticklen": 0, "font": {"color": "rgba(0,0,0,0)"}, "pad": {"t": 20}}
    slider |= {"currentvalue": {"prefix": f"{words['time']} ", "font": {"color": "#888888"}}}
    return {"updatemenus": [menu], "sliders": [slider]}
