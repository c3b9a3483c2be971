"""Messages about a run to wherever its owner looks: e-mail, chats, telephones, through the library apprise."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import shlex
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.errors import ConfigError
from experiments.store.location import HIDDEN, Store, redact
from experiments.store.read import read_run
from experiments.store.replay import Dead, reap, record_told
from experiments.store.write import open_store

Kind = Literal["finished", "failed", "killed", "stale", "nonfinite"]
SEND_SECONDS = 15.0  # apprise itself gives up after 4 s to connect and 4 s to answer

TITLES = {
    "finished": "FINISHED {}",
    "failed": "FAILED {}",
    "killed": "KILLED {}",
    "stale": "no sign of life from {}",
    "nonfinite": "first non-finite value in {}",
}


@dataclass(frozen=True)
class Event:
    """What happened to a run.

    Args:
        kind: what.
        run_id: of the run.
        name: the run's name.
        experiment: what runs are grouped by.
        values: last values worth reading, the objective first.
        detail: one line more: the error, or the quantity and its step.
        host: where the run is.
    """

    kind: Kind
    run_id: str
    name: str
    experiment: str
    values: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""
    host: str = field(default_factory=socket.gethostname)


def message(event: Event) -> tuple[str, str]:
    """Title and text, without secrets.

    >>> print(*message(Event("failed", "1a2b3c4d5e6f", "vae-1", "vae", {"val/elbo": -101.25}, "ValueError: no", "h7")))
    FAILED vae-1 experiment vae
    val/elbo -101.2
    ValueError: no
    host h7
    taolu show 1a2b3c4d
    """
    lines = [f"experiment {event.experiment}"]
    lines += [f"{key} {value:.4g}" if math.isfinite(value) else f"{key} {value}" for key, value in event.values.items()]
    lines += [event.detail] if event.detail else []
    lines += [f"host {event.host}", f"taolu show {event.run_id[:8]}"]
    return redact(TITLES[event.kind].format(event.name)), redact("\n".join(lines))


def last_values(metrics: Mapping[str, float], objective: str | None) -> dict[str, float]:
    """What a message says of a run's last values: the objective, or all of validation where none is stated.

    >>> last_values({"train/loss": 1.0, "val/loss": 2.0, "val/kl": 0.5}, None)
    {'val/loss': 2.0, 'val/kl': 0.5}
    """
    keys = [objective] if objective else [key for key in metrics if key.startswith("val/")]
    return {key: metrics[key] for key in keys if key in metrics}


def without_urls(command: str) -> str:
    """A command line whose --notify URLs are ***: in most of them every part is a secret.

    >>> without_urls("taolu run vae --notify slack://T1JJ3T3L2/A1BRTD4JD --seed 1 '--notify=json://h/a b'")
    "taolu run vae --notify '***' --seed 1 '--notify=***'"
    """
    words = shlex.split(command)
    for index, word in enumerate(words):
        if word.startswith("--notify="):
            words[index] = f"--notify={HIDDEN}"
        elif index and words[index - 1] == "--notify":
            words[index] = HIDDEN
    return shlex.join(words)


class Notifier:
    """Sends to every URL, each in a daemon thread of its own: nothing here waits, raises, or shows a URL's secrets.

    Args:
        urls: as apprise writes them, such as mailtos://user:password@host, slack://..., json://host/path.
        warn: says that a message could not be sent.
    """

    def __init__(self, urls: Sequence[str], warn: Callable[[str], None] | None = None) -> None:
        self.urls = list(urls)
        self.warn = warn or _warn
        self._under_way: list[threading.Thread] = []
        self._is_closed = False

    def check(self) -> None:
        """Raises ConfigError when apprise is not installed or does not know a URL. Nothing is sent."""
        if not self.urls:
            return
        if importlib.util.find_spec("apprise") is None:
            raise ConfigError("--notify needs apprise: pip install 'taolu[notify]'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in its 150 services, all loaded by the first URL
            unknown = [url for url in self.urls if _service(url) is None]
        if unknown:
            raise ConfigError(
                f"--notify '{_shown(unknown[0])}': no service can be reached with this URL;"
                " allowed: the URLs of https://appriseit.com/services, such as json://HOST/PATH;"
                " try it: apprise -vv -b test URL"
            )

    def send(self, title: str, body: str) -> list[str]:
        """Starts sending, and returns the list that each URL comes to stand in once it has taken the message."""
        taken: list[str] = []
        self._is_closed = False
        self._under_way = [thread for thread in self._under_way if thread.is_alive()]
        for url in self.urls:
            thread = threading.Thread(
                target=self._send, args=(url, title, body, taken), name="taolu-notify", daemon=True
            )
            self._under_way.append(thread)
            thread.start()
        return taken

    def close(self, timeout: float = SEND_SECONDS) -> None:
        """Waits for what is under way, all of it together at most `timeout` seconds."""
        end = time.monotonic() + timeout
        for thread in self._under_way:
            thread.join(max(end - time.monotonic(), 0.0))
        self._is_closed = True
        late = sum(thread.is_alive() for thread in self._under_way)
        if late:
            self.warn(f"notify: {late} of the messages got no answer within {timeout:g} s")
        self._under_way = []

    def _send(self, url: str, title: str, body: str, taken: list[str]) -> None:
        try:
            service = _service(url)
            is_sent = service is not None and bool(service.notify(title=title, body=body))
        except Exception:  # noqa: BLE001 - 150 services of a foreign library; whatever they raise, the training goes on
            is_sent = False
        if is_sent:
            taken.append(url)
        elif not self._is_closed:  # the late ones were said by `close`
            self.warn(f"notify: {_shown(url)} took no message '{title}'; why: apprise -vv -b test URL")


def notify(
    urls: Sequence[str],
    events: Sequence[Event],
    *,
    timeout: float = SEND_SECONDS,
    warn: Callable[[str], None] | None = None,
) -> list[bool]:
    """Whether each message has arrived at one URL at least, when all have or `timeout` seconds are over.

    Raises ConfigError as `Notifier.check` does.
    """
    notifier = Notifier(urls, warn)
    notifier.check()
    taken = [notifier.send(*message(event)) for event in events]
    notifier.close(timeout)
    return [bool(each) for each in taken]


def reap_and_tell(store: Store, urls: Sequence[str]) -> list[Dead]:
    """The runs that `reap` finds, of which every URL is told: once, and again only if the run has lived since.

    A stale run whose message nobody took is told at the next reap.
    Raises ConfigError as `Notifier.check` does, before any run is marked; or when the store cannot be written.
    """
    Notifier(urls).check()
    found = reap(store)
    news = [dead for dead in found if dead.told != dead.news] if urls else []
    if news:
        open_store(store)  # one that cannot be written refuses here: its stale runs would be told at every reap
        arrived = notify(urls, [_event(store, dead) for dead in news])
        record_told(store, [dead for dead, is_told in zip(news, arrived, strict=True) if is_told])
    return found


def _event(store: Store, dead: Dead) -> Event:
    record, beat = read_run(store, dead.run_id), dead.beat
    seconds = max(time.time() - float(beat.get("time", 0.0)), 0.0)
    ago = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    why = "its process is gone; " if dead.reaped else ""
    total = f" of {beat['total_steps']}" if beat.get("total_steps") else ""
    return Event(
        "failed" if dead.reaped else "stale",
        dead.run_id,
        dead.name,
        record.experiment,
        last_values(record.metrics, record.tags.get("taolu.objective", "").rpartition(" ")[0]),
        f"{why}last heartbeat {ago} ago at step {beat.get('step')}{total}",
        str(beat.get("host")),
    )


def _service(url: str) -> Any:
    """What sends to this URL, None where apprise knows none."""
    import apprise  # its Apprise.notify is avoided: it starts a pool whose threads keep the interpreter from ending

    logging.getLogger("apprise").propagate = False  # what it logs names hosts and tokens
    service = apprise.Apprise.instantiate(url)
    if service is not None:
        service.notify_format = apprise.NotifyFormat.TEXT
    return service


def _shown(url: str) -> str:
    """The URL's kind: any other part of it may be a secret.

    >>> _shown("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    'slack://***'
    """
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://***" if separator and scheme.isalnum() else "***"


def _warn(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"taolu: {text}\n".encode(errors="replace"))  # from a thread: print may be half-way or gone
