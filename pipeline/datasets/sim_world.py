"""The simulator's world: categories, items that live and die, and how to draw items from it.

In: `SimulateSettings`. Out: a `World`, the same for every block of users. Nothing here knows users.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from amen_tf.config import SimulateSettings

DAY = 86_400.0
# 2024-01-01 UTC.
START_TIME = 1_704_067_200
MAX_STYLES = 6
SUCCESSORS = 2
_REDRAWS = 4


@dataclasses.dataclass(frozen=True)
class World:
    """Items sorted by pool = (category, style); `pool_start[p] .. pool_start[p + 1]` are the items of pool p.

    Attributes:
      styles: styles per category; pool = category * styles + style.
      category, style: int32 `[items]`.
      quality: float32 `[items]`, standard normal.
      price: float32 `[items]`.
      birth, death: float64 `[items]`, seconds since the start of the log; an item is on sale in [birth, death).
      weight_sum: float64 `[items + 1]`, running sum of popularity weights, starting at 0.
      pool_start: int64 `[pools + 1]`.
      category_sum: float64 `[categories]`, running sum of the chance that a new intent falls into a category.
      successors: int32 `[categories, 2]`, the categories that a purchase may lead to.
      names: string `[items]`, item ids; numbered at random, so that an id says nothing about its item.
      category_names: string `[categories]`, numbered at random.
    """

    styles: int
    category: np.ndarray
    style: np.ndarray
    quality: np.ndarray
    price: np.ndarray
    birth: np.ndarray
    death: np.ndarray
    weight_sum: np.ndarray
    pool_start: np.ndarray
    category_sum: np.ndarray
    successors: np.ndarray
    names: pa.Array
    category_names: pa.Array

    @property
    def categories(self) -> int:
        return len(self.category_names)

    def alive(self, items: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether items are on sale; `time` in seconds since the start, broadcast against `items`."""
        return (self.birth[items] <= time) & (time < self.death[items])

    def draw_category(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Categories by their popularity: int64 `[count]`."""
        return np.searchsorted(self.category_sum, rng.random(count), side="right").clip(max=self.categories - 1)

    def draw_any(self, rng: np.random.Generator, time: np.ndarray, popular: bool) -> np.ndarray:
        """Items on sale at `time` `[n]`, by popularity or evenly over the catalogue: int64 `[n]`."""

        def draw(where: np.ndarray) -> np.ndarray:
            if not popular:
                return rng.integers(0, len(self.category), len(where))
            return self._at(rng.random(len(where)) * self.weight_sum[-1])

        last_resort = self.pool_start[rng.integers(0, len(self.pool_start) - 1, len(time))]
        return self._living(draw, time, last_resort)

    def draw_from_pool(
        self, rng: np.random.Generator, category: np.ndarray, style: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """Items of given category and style `[n]` on sale at `time` `[n]`, by popularity: int64 `[n]`."""
        pool = category * self.styles + style
        low, high = self.weight_sum[self.pool_start[pool]], self.weight_sum[self.pool_start[pool + 1]]

        def draw(where: np.ndarray) -> np.ndarray:
            drawn = self._at(low[where] + rng.random(len(where)) * (high - low)[where])
            return drawn.clip(self.pool_start[pool[where]], self.pool_start[pool[where] + 1] - 1)

        return self._living(draw, time, self.pool_start[pool])

    def _at(self, mass: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.weight_sum, mass, side="right").clip(1, len(self.category)) - 1

    def _living(self, draw, time: np.ndarray, last_resort: np.ndarray) -> np.ndarray:
        items = draw(np.arange(len(time)))
        for _ in range(_REDRAWS):
            dead = np.flatnonzero(~self.alive(items, time))
            if not len(dead):
                return items
            items[dead] = draw(dead)
        # The first item of every pool is always on sale.
        return np.where(self.alive(items, time), items, last_resort)


def make_world(sim: SimulateSettings) -> World:
    """The world of a simulation, from its seed and sizes alone.

    One item of every pool lives throughout. Of the others, four in ten are there from the start and are taken off at
    a random time (or never), the rest come at a random time; most live a few weeks.
    """
    rng = np.random.default_rng([sim.seed, 0])
    categories = min(sim.categories, sim.items // 2)
    styles = max(1, min(MAX_STYLES, sim.items // (4 * categories)))
    pools = categories * styles
    share = 1.0 / np.arange(1, categories + 1) ** 0.8
    share /= share.sum()
    extra = rng.choice(categories, sim.items - pools, p=share) * styles + rng.integers(0, styles, sim.items - pools)
    pool = np.sort(np.concatenate([np.arange(pools), extra]))
    pool_start = np.searchsorted(pool, np.arange(pools + 1))
    quality = rng.standard_normal(sim.items).astype(np.float32)
    weight = np.exp(0.5 * quality + 0.8 * rng.standard_normal(sim.items))
    days = sim.days
    early = rng.random(sim.items) < 0.4
    birth = np.where(early, -1.0, rng.random(sim.items) * days) * DAY
    death = np.maximum(birth, 0.0) + rng.exponential(max(days, 14.0), sim.items) * DAY
    forever = pool_start[:-1]
    birth[forever], death[forever] = -DAY, np.inf
    typical_price = np.exp(rng.normal(3.5, 0.8, categories))
    category = (pool // styles).astype(np.int32)
    # A cycle through all categories per successor: no category is its own successor, all are reached.
    order = rng.permutation(categories)
    successors = np.empty((categories, SUCCESSORS), np.int32)
    for k in range(SUCCESSORS):
        successors[order, k] = np.roll(order, -(k + 1))
    return World(
        styles=styles,
        category=category,
        style=(pool % styles).astype(np.int32),
        quality=quality,
        price=(typical_price[category] * np.exp(rng.normal(0, 0.4, sim.items))).astype(np.float32).round(2),
        birth=birth,
        death=death,
        weight_sum=np.concatenate([[0.0], np.cumsum(weight)]),
        pool_start=pool_start,
        category_sum=np.cumsum(share),
        successors=successors,
        names=numbered("i", rng.permutation(sim.items)),
        category_names=numbered("c", rng.permutation(categories)),
    )


def numbered(letter: str, numbers: np.ndarray) -> pa.Array:
    """Names such as i17: string `[n]`."""
    return pa.array([f"{letter}{number}" for number in numbers.tolist()], pa.string())
