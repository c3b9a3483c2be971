"""Batch size as a function of the epoch: what the recipe of kexue.fm/archives/5655 asks of the data."""

from dataclasses import dataclass

N_GROWTHS = 64  # enough to outgrow any set: 2 ** 64 rows


@dataclass(frozen=True)
class Growth:
    """How the batch grows, at borders of epochs alone: B factor ** (epoch // every) rows, `largest` at most.

    It stops growing where the next batch would exceed the training set. The factor is whole, so that k processes of
    B / k rows train on the batches of one process of B rows.

    Args:
        factor: Of one growth; 1 keeps the batch as it is.
        every: Epochs between two growths.
        largest: Rows a process and batch that are never exceeded; None = the training set alone sets the bound.

    Source: kexue.fm/archives/5655, after equation (9); Smith et al. 2018, section 5.

    >>> growth = Growth(2, every=3, largest=100)
    >>> [growth.batch_size(32, epoch, n_rows=1000) for epoch in (0, 2, 3, 6, 99)]
    [32, 32, 64, 100, 100]
    """

    factor: int = 1
    every: int = 1
    largest: int | None = None

    def check(self, batch_size: int) -> None:
        """ValueError, by the names of the data part's settings, for what cannot grow from `batch_size`."""
        if not (isinstance(self.factor, int) and self.factor >= 1):
            raise ValueError(
                f"data.batch_growth = {self.factor}: must be a whole number of at least 1; 2 doubles the batch, 1 keeps"
                " it; for slower growth raise data.growth_every"
            )
        if not (isinstance(self.every, int) and self.every >= 1):
            raise ValueError(f"data.growth_every = {self.every}: must be a whole number of epochs, at least 1")
        if self.largest is not None and self.largest < batch_size:
            raise ValueError(
                f"data.max_batch_size = {self.largest}: must be at least data.batch_size = {batch_size}, or null"
            )

    @property
    def is_on(self) -> bool:
        """Whether the batch ever grows."""
        return self.factor > 1

    def batch_size(self, first: int, epoch: int, n_rows: int, n_processes: int = 1) -> int:
        """Rows a process and batch in an epoch.

        Args:
            first: B, in epoch 0.
            epoch: From 0.
            n_rows: Of the training set.
            n_processes: That share it.
        """
        n_growths = min(epoch // self.every, N_GROWTHS) if self.is_on else 0
        while n_growths and self._grown(first, n_growths) * n_processes > n_rows:
            n_growths -= 1
        return self._grown(first, n_growths)

    def _grown(self, first: int, n_growths: int) -> int:
        size: int = first * self.factor**n_growths
        return size if self.largest is None else min(size, self.largest)
