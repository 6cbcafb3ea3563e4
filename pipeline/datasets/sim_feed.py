"""The simulated feed: what the upstream recalls for a user, and how likely each shown item is clicked.

In: a `World`, the users' `Intents`, a random generator. Out: candidates in display order and true probabilities.
"""

import numpy as np

from amen_tf.config import SimulateSettings
from pipeline.datasets.sim_intents import FAVORITES, Intents
from pipeline.datasets.sim_world import DAY, World

FATIGUE_HALF_LIFE = 0.5 * DAY
# Logit of a click: BIAS + MATCH match + QUALITY quality + TASTE [favourite category] - FATIGUE shown before
# - POSITION log8(position).
BIAS, MATCH, QUALITY, TASTE, FATIGUE, POSITION = -3.5, 4.0, 0.6, 0.5, 0.12, 0.75
# Fit of an item that has the category of an intent but not its style.
CATEGORY_ONLY = 0.35
# Shares of what the upstream recalls for: an intent in the feed, a favourite category, nothing (any item); the rest,
# and intents of users who have none, are popular items.
FROM_INTENT, FROM_FAVORITE, FROM_CATALOGUE = 0.3, 0.15, 0.2
EXACT_STYLE = 0.4


class Feed:
    """The feed of one block of users; keeps how tired each user is of each category."""

    def __init__(self, world: World, intents: Intents, sim: SimulateSettings, rng: np.random.Generator, users: int):
        self.world, self.intents, self.rng, self.shown = world, intents, rng, sim.candidates
        self._tired = np.zeros((users, world.categories), np.float32)
        self._tired_at = np.zeros((users, world.categories), np.float32)

    def candidates(self, users: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Items shown to each user, in display order: int64 `[users, candidates]`, no item twice in a row."""
        rng, world, intents = self.rng, self.world, self.intents
        shape = (len(users), self.shown)
        who, when = np.repeat(users, self.shown), np.repeat(time, self.shown)
        source = rng.random(len(who))
        style = rng.integers(0, world.styles, len(who))
        items = world.draw_any(rng, when, popular=True)
        evenly = np.flatnonzero(source >= 1.0 - FROM_CATALOGUE)
        items[evenly] = world.draw_any(rng, when[evenly], popular=False)
        liked = np.flatnonzero((source >= FROM_INTENT) & (source < FROM_INTENT + FROM_FAVORITE))
        favorite = intents.favorites[who[liked], rng.integers(0, FAVORITES, len(liked))]
        items[liked] = world.draw_from_pool(rng, favorite, style[liked], when[liked])
        slot = intents.pick(np.repeat(intents.strength_in_feed(users, time), self.shown, axis=0))
        wanted = np.flatnonzero((source < FROM_INTENT) & (slot >= 0))
        chosen = (who[wanted], slot[wanted])
        exact = rng.random(len(wanted)) < EXACT_STYLE
        style = np.where(exact, intents.style[chosen], style[wanted])
        items[wanted] = world.draw_from_pool(rng, intents.category[chosen], style, when[wanted])
        items = self._without_repeats(items.reshape(shape), time)
        # The upstream's own ranking: it likes what it recalled for an intent, and quality, with much noise.
        recalled = np.zeros(len(who))
        recalled[wanted] = 0.6
        score = recalled.reshape(shape) + 0.4 * world.quality[items] + rng.standard_normal(shape)
        return np.take_along_axis(items, np.argsort(-score, axis=1), axis=1)

    def click_probability(
        self, users: np.ndarray, items: np.ndarray, time: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The truth behind every impression; showing the items makes users tired of their categories.

        Returns:
          probability: float32 `[users, candidates]`.
          slot: int64 `[users, candidates]`, the intent that fits best, -1 where none does.
        """
        fit = self._fit(users, items, time)
        match = fit.max(axis=2)
        category = self.world.category[items]
        liked = (category[:, :, None] == self.intents.favorites[users][:, None, :]).any(axis=2)
        place = np.arange(1, self.shown + 1)
        logit = (
            BIAS
            + MATCH * match
            + QUALITY * self.world.quality[items]
            + TASTE * liked
            - FATIGUE * self._show(users[:, None], category, time[:, None])
            - POSITION * np.log2(place) / 3.0
        )
        probability = (1.0 / (1.0 + np.exp(-logit))).astype(np.float32)
        return probability, np.where(match > 0, fit.argmax(axis=2), -1)

    def _fit(self, users: np.ndarray, items: np.ndarray, time: np.ndarray) -> np.ndarray:
        """How well candidates fit intents in the feed: float64 `[users, candidates, slots]`, 0 = not at all."""
        strength = self.intents.strength_in_feed(users, time)[:, None, :]
        same_category = self.world.category[items][:, :, None] == self.intents.category[users][:, None, :]
        same_style = self.world.style[items][:, :, None] == self.intents.style[users][:, None, :]
        return same_category * np.where(same_style, 1.0, CATEGORY_ONLY) * strength

    def _show(self, who: np.ndarray, category: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Decayed number of earlier impressions of each candidate's category; counts these ones in for next time."""
        age = time - self._tired_at[who, category]
        tired = self._tired[who, category] * 0.5 ** (age / FATIGUE_HALF_LIFE)
        self._tired[who, category] = tired + (category[:, :, None] == category[:, None, :]).sum(axis=2)
        self._tired_at[who, category] = time
        return tired

    def _without_repeats(self, items: np.ndarray, time: np.ndarray) -> np.ndarray:
        # Eight rounds leave repeats only where the catalogue is hardly larger than the request.
        for _ in range(8):
            order = np.argsort(items, axis=1, kind="stable")
            ranked = np.take_along_axis(items, order, axis=1)
            row, column = np.nonzero(ranked[:, 1:] == ranked[:, :-1])
            if not len(row):
                break
            items[row, order[row, column + 1]] = self.world.draw_any(self.rng, time[row], popular=False)
        return items
