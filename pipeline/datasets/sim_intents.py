"""The intents of a block of simulated users: how they begin, reach the feed, decay and end.

In: a `World`, settings, a random generator. Out: `Intents`, arrays of users by slots. Times are seconds since the
start of the log.
"""

import numpy as np

from amen_tf.config import SimulateSettings
from pipeline.datasets.sim_world import DAY, World

SLOTS = 4
FAVORITES = 3
BIRTHS_PER_DAY = 0.35
HALF_LIFE = 3.0 * DAY
FORGOTTEN = 0.08
# Mean time from the birth of an intent until it reaches the feed, for lead = 1.
LEAD_DELAY = 0.5 * DAY


class Intents:
    """Up to four intents a user, each a category and a style that the user wants.

    Attributes:
      favorites: int64 `[users, 3]`, categories that a user comes back to (they may repeat).
      category, style: int64 `[users, slots]`.
      weight: float64 `[users, slots]`, strength before any decay; 0 = empty slot.
      reach: float64 `[users, slots]`, when the intent reaches the feed; it decays from then on.
    """

    def __init__(self, world: World, sim: SimulateSettings, rng: np.random.Generator, users: int):
        self.world, self.rng = world, rng
        self.delay = sim.lead * LEAD_DELAY
        self.favorites = world.draw_category(rng, users * FAVORITES).reshape(users, FAVORITES)
        self.category = np.zeros((users, SLOTS), np.int64)
        self.style = np.zeros((users, SLOTS), np.int64)
        self.weight = np.zeros((users, SLOTS))
        self.reach = np.zeros((users, SLOTS))

    def begin_new(self, users: np.ndarray, time: np.ndarray) -> None:
        """A new intent for each user `[n]`, in the weakest slot: a favourite category with chance 0.6, else any."""
        n = len(users)
        category = self.world.draw_category(self.rng, n)
        own = self.rng.random(n) < 0.6
        category[own] = self.favorites[users[own], self.rng.integers(0, FAVORITES, int(own.sum()))]
        slot = self.strength(users, time).argmin(axis=1)
        self.begin(users, slot, category, self.rng.integers(0, self.world.styles, n), time)

    def begin(
        self, users: np.ndarray, slot: np.ndarray, category: np.ndarray, style: np.ndarray, time: np.ndarray
    ) -> None:
        """An intent for a category and style at `time`, in the given slot of each user; all `[n]`."""
        self.category[users, slot], self.style[users, slot] = category, style
        self.weight[users, slot] = self.rng.uniform(0.7, 1.2, len(users))
        self.reach[users, slot] = time + self.delay * self.rng.exponential(1.0, len(users))

    def purchase(self, users: np.ndarray, slot: np.ndarray, time: np.ndarray, follow: float) -> None:
        """Ends intents; with chance `follow` one for a successor category, in the same style, takes the place."""
        category, style = self.category[users, slot], self.style[users, slot]
        self.weight[users, slot] = 0.0
        follows = self.rng.random(len(users)) < follow
        which = self.rng.integers(0, self.world.successors.shape[1], len(users))
        successor = self.world.successors[category, which]
        self.begin(users[follows], slot[follows], successor[follows], style[follows], time[follows])

    def strength(self, users: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Strength of each intent wherever it shows, 0 = none: float64 `[n, slots]`."""
        age = np.maximum(time[:, None] - self.reach[users], 0.0)
        strength = self.weight[users] * 0.5 ** (age / HALF_LIFE)
        return np.where(strength < FORGOTTEN, 0.0, strength)

    def strength_in_feed(self, users: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Strength of each intent in the feed, 0 before it has got there: float64 `[n, slots]`."""
        return self.strength(users, time) * (self.reach[users] <= time[:, None])

    def pick(self, strength: np.ndarray) -> np.ndarray:
        """A slot in proportion to strengths `[n, slots]`, -1 where all are 0: int64 `[n]`."""
        total = strength.sum(axis=1)
        mass = self.rng.random(len(total)) * total
        slot = (np.cumsum(strength, axis=1) <= mass[:, None]).sum(axis=1)
        return np.where(total > 0, slot.clip(max=strength.shape[1] - 1), -1)
