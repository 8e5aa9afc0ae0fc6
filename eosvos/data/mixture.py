"""In which order the entries of data sets have their turn in training (method, section 5)."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Generator, Tensor

from eosvos.config.data import Tasks
from eosvos.data.sequence import VideoSequence
from eosvos.data.task_source import TrainingSet, check_kinds
from eosvos.seeding import derive_seed

Entry = tuple[int, int]
"""The number of a data set, and that of one of its entries."""


class Mixture:
    """Which entry has its turn at which draw, as a pure function of seed and draw.

    Without weights an epoch is a permutation of the entries of all data sets. With weights every data set has
    epochs of its own, and among any first n draws as many turns as its share of n, up to the number of data
    sets. sets: one or more; all of them have a weight, or none. Raises UserError if they do not have what
    tasks are made of.
    """

    def __init__(self, sets: Sequence[TrainingSet], tasks: Tasks, seed: int) -> None:
        self.sets = sets
        self.sources = [one.source(tasks) for one in sets]
        check_kinds(sets, self.sources, tasks)
        self._seed = seed
        self._lengths = [len(source) for source in self.sources]
        weighted = len(sets) > 1 and sets[0].weight is not None
        self._weights = [Fraction(str(one.weight)) if weighted else Fraction(1) for one in sets]
        self._pools = [range(i, i + 1) for i in range(len(sets))] if weighted else [range(len(sets))]

    def turn(self, draw: int) -> Iterator[Entry]:
        """The entry of a draw, and then those of its epoch that replace it if they must, in order."""
        number, turn = self._pool(draw)
        pool = self._pools[number]
        length = self._length(pool)
        epoch, position = divmod(turn, length)
        of_pool = [self.sets[number].name] if len(self._pools) > 1 else []
        order = _permutation(derive_seed(self._seed, "epoch", epoch, *of_pool), length)
        return (self._entry(pool, int(order[(position + step) % length])) for step in range(length))

    def look_up(self, entry: Entry) -> tuple[TrainingSet, VideoSequence, int]:
        """The data set, sequence and object id of an entry."""
        number, i = entry
        return self.sets[number], *self.sources[number][i]

    def any_entry(self, generator: Generator) -> Entry:
        """An entry at random, by the weights of the data sets if they have any."""
        pool = self._pools[0]
        if len(self._pools) > 1:
            weights = torch.tensor([float(weight) for weight in self._weights])
            pool = self._pools[int(torch.multinomial(weights, 1, generator=generator))]
        return self._entry(pool, int(torch.randint(self._length(pool), (), generator=generator)))

    def _pool(self, draw: int) -> tuple[int, int]:
        """Which pool of entries a draw is of, and how many draws before were.

        Of the first n draws, the first pool has its share of n, rounded down; the second its share of the
        rest, and so on.
        """
        for number in range(len(self._pools) - 1):
            share = self._weights[number] / sum(self._weights[number:])
            before = int(draw * share)
            if int((draw + 1) * share) > before:
                return number, before
            draw -= before
        return len(self._pools) - 1, draw

    def _length(self, pool: range) -> int:
        return sum(self._lengths[i] for i in pool)

    def _entry(self, pool: range, number: int) -> Entry:
        """The entry of a number, by which those of a pool are counted from one data set to the next."""
        starts = list(accumulate((self._lengths[i] for i in pool[:-1]), initial=0))
        place = bisect(starts, number) - 1
        return pool[place], number - starts[place]


@lru_cache(maxsize=8)
def _permutation(seed: int, length: int) -> Tensor:
    return torch.randperm(length, generator=Generator().manual_seed(seed))
