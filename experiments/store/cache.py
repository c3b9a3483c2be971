"""What was read of a store, kept in memory and brought up to date by what was written since.

Both caches are shared between threads. Where the store cannot be read any more they go on giving what they have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from experiments.errors import ConfigError
from experiments.store.curves import Curve
from experiments.store.location import Store
from experiments.store.read import read_curves, wide_table
from experiments.store.tables import News, Selection, read_news

if TYPE_CHECKING:
    import pandas as pd

_SERVER_SECONDS = 5  # how old a table of a database server may be
_WHOLE_SECONDS = 10  # after which all is read again: a tag that was changed in place is seen by that alone
_RETRY_SECONDS = 2  # between attempts on a store that cannot be read; each may wait for a lock
_FEW_RUNS = 1_000  # up to here the whole table is read: some 40 ms
_MOST_CHANGED = 500
_MOST_POINTS = 8_000_000  # of kept curves: 200 MB


class _Kept:
    """Knows when the store may have changed, and why it could not be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trouble: str | None = None
        self._stamp: tuple[int, ...] | None = None
        self._retry_at = 0.0
        self._lock = threading.RLock()

    def _refresh(self) -> bool:
        """Brings up to date if need be; False where that failed and there may be older data."""
        stamp = _stamp(self.store)
        if stamp == self._stamp:
            self.trouble = None  # it was away and is back as it was
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            if not stamp and self._stamp:  # not a store that holds nothing yet
                raise ConfigError(f"store {self.store.label}: its database is gone; put it back or name another store")
            self._read()
        except ConfigError as error:
            self.trouble, self._retry_at = str(error), time.monotonic() + _RETRY_SECONDS
            return False
        self._stamp, self.trouble = stamp, None
        return True

    def _read(self) -> None:
        raise NotImplementedError


class RunsCache(_Kept):
    """The table of all runs."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._table: pd.DataFrame | None = None
        self._news: News | None = None
        self._whole_at = 0.0

    def table(self) -> pd.DataFrame:
        """As `runs_table` gives it; shared, so it must not be changed. The last one where the store cannot be read."""
        with self._lock:
            if not self._refresh() and self._table is None:
                raise ConfigError(str(self.trouble))
            assert self._table is not None
            return self._table

    def forget(self) -> None:
        """What is asked for next is read anew: this process has written to the store."""
        self._stamp, self._whole_at = None, 0.0

    def _read(self) -> None:
        is_due = time.monotonic() - self._whole_at > _WHOLE_SECONDS
        if self._table is None or self._news is None or is_due or len(self._table) <= _FEW_RUNS:
            self._read_whole()
            return
        news = read_news(self.store, self._news)
        changed = None if news is None else news.changed | _unfinished(self._table)
        if changed is None or len(changed) > _MOST_CHANGED:
            self._read_whole()
        else:
            if changed:
                newer = wide_table(self.store, Selection(run_ids=tuple(changed)))
                self._table = _patched(self._table, newer, changed)
            self._news = news

    def _read_whole(self) -> None:
        self._news = read_news(self.store)  # first: what is written meanwhile is news the next time
        self._table = wide_table(self.store, Selection())
        self._whole_at = time.monotonic()


class CurvesCache(_Kept):
    """Curves that were asked for, until their runs log anything more."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._curves: dict[tuple[str, str], Curve] = {}
        self._asked: dict[tuple[str, str | None], None] = {}  # metric None: all; the order is that of the first asking
        self._news: News | None = None

    def curves(self, run_ids: tuple[str, ...], keys: tuple[str, ...] | None = None) -> dict[tuple[str, str], Curve]:
        """As `read_curves` gives them; shared, so they must not be changed."""
        with self._lock:
            is_fresh = self._refresh()
            if is_fresh or not self._curves:
                self._fill(run_ids, keys)
            wanted = None if keys is None else set(keys)
            ids = set(run_ids)
            return {
                series: curve
                for series, curve in self._curves.items()
                if series[0] in ids and (wanted is None or series[1] in wanted)
            }

    def _fill(self, run_ids: tuple[str, ...], keys: tuple[str, ...] | None) -> None:
        asked = keys if keys is not None else (None,)
        missing: dict[tuple[str | None, ...], list[str]] = {}  # metrics -> the runs they are to be read of
        for run_id in run_ids:
            absent = tuple(key for key in asked if not self._asked.keys() & {(run_id, key), (run_id, None)})
            if absent:
                missing.setdefault(absent, []).append(run_id)
        for absent, ids in missing.items():
            names = None if None in absent else [key for key in absent if key is not None]
            self._curves |= read_curves(self.store, ids, names)
            self._asked |= dict.fromkeys((run_id, key) for run_id in ids for key in absent)
        if missing:
            self._drop_oldest(set(run_ids))

    def _drop_oldest(self, wanted: set[str]) -> None:
        n_points = sum(len(curve.step) for curve in self._curves.values())
        for run_id in dict.fromkeys(run_id for run_id, _ in self._asked):
            if n_points <= _MOST_POINTS:
                return
            if run_id not in wanted:
                n_points -= self._drop({run_id})

    def _drop(self, run_ids: Collection[str]) -> int:
        gone = [series for series in self._curves if series[0] in run_ids]
        self._asked = {asked: None for asked in self._asked if asked[0] not in run_ids}
        return sum(len(self._curves.pop(series).step) for series in gone)

    def _read(self) -> None:
        news = self._news and read_news(self.store, self._news)
        if news is None:
            self._curves, self._asked = {}, {}
            self._news = read_news(self.store)
        else:
            self._drop(news.changed)
            self._news = news


def _stamp(store: Store) -> tuple[int, ...]:
    """Changes whenever the database may have; empty where there is none."""
    if store.database is None:
        return (int(time.monotonic() / _SERVER_SECONDS),)
    if not store.database.is_file():
        return ()
    files = (store.database, store.database.with_name(store.database.name + "-wal"))
    stats = [path.stat() for path in files if path.exists()]
    return tuple(number for stat in stats for number in (stat.st_ino, stat.st_mtime_ns, stat.st_size))


def _unfinished(table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["status"].isin(["RUNNING", "SCHEDULED"]), "run_id"])


def _patched(table: pd.DataFrame, newer: pd.DataFrame, changed: Collection[str]) -> pd.DataFrame:
    """The table with the rows of the changed runs replaced by those of `newer`, in the order of `runs_table`."""
    import pandas as pd

    kept = table[~table["run_id"].isin(changed)]
    joined = pd.concat([kept, newer], ignore_index=True) if len(newer) else kept
    plain = [name for name in joined.columns if "." not in name]
    wide = [
        name for part in ("params.", "metrics.", "tags.") for name in sorted(joined.columns) if name.startswith(part)
    ]
    joined["begin"] = -joined["started"].fillna(pd.Timestamp(0, tz="UTC")).astype("int64")
    return joined.sort_values(["begin", "run_id"], ignore_index=True)[[*plain, *wide]]
