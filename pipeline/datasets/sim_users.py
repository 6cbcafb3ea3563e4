"""One block of simulated users on their way through the scenes, and the rows they leave behind.

In: a `World`, settings and the block's number. Out: the block's rows as NumPy columns. All users of the block advance
together, one step of the scene chain at a time; `simulator` describes the process.
"""

import numpy as np

from amen_tf.config import SimulateSettings
from pipeline.datasets import sim_scenes as s
from pipeline.datasets.sim_feed import Feed
from pipeline.datasets.sim_intents import BIRTHS_PER_DAY, Intents
from pipeline.datasets.sim_world import DAY, World

# Seconds between two steps of a session: at least the first, and on average the second more.
_PAUSE, _MORE_PAUSE = 5.0, 25.0
COLUMNS = ("user", "time", "scene", "behavior", "item", "label", "request", "position", "probability")


class Block:
    """State of the users of one block and the rows they have left behind so far."""

    def __init__(self, world: World, sim: SimulateSettings, first_user: int, users: int, number: int):
        self.world, self.first_user = world, first_user
        self.horizon = sim.days * DAY
        # How strongly other scenes show an intent, and how often a purchase starts another.
        self.show, self.follow = 1.0 - np.exp(-sim.lead), 1.0 - np.exp(-sim.chain)
        # One stream of random numbers a block: a block is the same however many there are.
        self.rng = rng = np.random.default_rng([sim.seed, 1, number])
        activity = rng.gamma(2.0, 0.5, users).clip(0.1, 4.0)
        self.gap = self.horizon / (activity * sim.requests_per_user / s.FEED_REQUESTS_PER_SESSION)
        self.time = np.zeros(users)
        self.scene = np.full(users, s.END)
        self.focus = np.full(users, -1)
        self.focus_slot = np.full(users, -1)
        self.requests = np.zeros(users, np.int64)
        self.intents = Intents(world, sim, rng, users)
        self.feed = Feed(world, self.intents, sim, rng, users)
        self._rows: list[tuple] = []
        # Users do not begin the log without intents.
        for _ in range(2):
            self._begin_intents(np.flatnonzero(rng.random(users) < 0.5))

    def run(self) -> dict[str, np.ndarray]:
        """Simulates the block to the end of the period; what was begun before it is finished, seconds after.

        Returns:
          Columns `[rows]` in time order: `user` int64, `time` int64 (seconds since the start), `scene`, `behavior`
          int8, `item` int64 (-1 = none), `label` int8 (-1 = none), `request` int64 (-1 = none; numbers a user's
          requests), `position` int16 (0 = none, 1 = top), `probability` float32 (NaN but on impressions).
        """
        active = np.arange(len(self.time))
        while len(active):
            resting = self.scene[active] == s.END
            mean = np.where(resting, self.gap[active], _MORE_PAUSE)
            gap = mean * self.rng.exponential(1.0, len(active)) + np.where(resting, 0.0, _PAUSE)
            self.time[active] += gap
            going = self.time[active] < self.horizon
            active, resting, gap = active[going], resting[going], gap[going]
            starting = active[resting]
            self.scene[starting] = s.choose(self.rng, np.broadcast_to(s.START, (len(starting), len(s.START))))
            self._begin_intents(active[self.rng.random(len(active)) < 1.0 - np.exp(-BIRTHS_PER_DAY * gap / DAY)])
            self.scene[active] = s.choose(self.rng, s.NEXT[self._act(active)])
        return self._columns()

    def _begin_intents(self, users: np.ndarray) -> None:
        self.intents.begin_new(users, self.time[users])

    def _act(self, active: np.ndarray) -> np.ndarray:
        """Every active user does what its scene is for. Returns the row of `NEXT` that applies: int64 `[active]`."""
        after = np.zeros(len(active), np.int64)
        for scene, act in (
            (s.FEED, self._feed),
            (s.SEARCH, self._search),
            (s.LIVE, self._live),
            (s.CONTENT, self._content),
            (s.ITEM_PAGE, self._item_page),
            (s.CART, self._cart),
        ):
            where = np.flatnonzero(self.scene[active] == scene)
            if len(where):
                after[where] = act(active[where])
        return after

    def _feed(self, users: np.ndarray) -> np.ndarray:
        time = np.floor(self.time[users])
        items = self.feed.candidates(users, time)
        probability, slot = self.feed.click_probability(users, items, time)
        clicked = self.rng.random(items.shape) < probability
        n = items.shape[1]
        self._write(
            np.repeat(users, n),
            np.repeat(time, n),
            s.FEED,
            s.IMPRESSION,
            items.ravel(),
            label=clicked.ravel(),
            request=np.repeat(self.requests[users], n),
            position=np.tile(np.arange(1, n + 1), len(users)),
            probability=probability.ravel(),
        )
        self.requests[users] += 1
        row, column = np.nonzero(clicked)
        # A click comes a few seconds after the request, later the further down the item is.
        at = time[row] + 2.0 * (column + 1) + self.rng.integers(0, 2, len(row))
        self._write(users[row], at, s.FEED, s.CLICK, items[row, column])
        # Of several clicks the last one counts: it is assigned last.
        self.time[users[row]] = at + 1.0
        self.focus[users[row]], self.focus_slot[users[row]] = items[row, column], slot[row, column]
        return np.where(clicked.any(axis=1), s.AFTER_FEED_CLICK, s.AFTER_FEED)

    def _search(self, users: np.ndarray) -> np.ndarray:
        self._write(users, np.floor(self.time[users]), s.SEARCH, s.SEARCHES, np.full(len(users), -1))
        found = self.rng.random(len(users)) < 0.7
        here = users[found]
        self.time[here] += 4.0 + self.rng.integers(0, 20, len(here))
        self._look_at(here, s.SEARCH, s.CLICK)
        return np.where(found, s.AFTER_SEARCH_CLICK, s.AFTER_SEARCH)

    def _live(self, users: np.ndarray) -> np.ndarray:
        self._look_at(users, s.LIVE, s.VISIT)
        return np.full(len(users), s.AFTER_LIVE)

    def _content(self, users: np.ndarray) -> np.ndarray:
        self._look_at(users, s.CONTENT, s.VISIT)
        return np.full(len(users), s.AFTER_CONTENT)

    def _look_at(self, users: np.ndarray, scene: int, behavior: int) -> None:
        """Users meet an item outside the feed: for one of their intents with chance `show`, else any popular one."""
        rng, time = self.rng, np.floor(self.time[users])
        items = self.world.draw_any(rng, time, popular=True)
        slot = self.intents.pick(self.intents.strength(users, time))
        slot = np.where(rng.random(len(users)) < self.show, slot, -1)
        own = np.flatnonzero(slot >= 0)
        chosen = (users[own], slot[own])
        exact = rng.random(len(own)) < 0.8
        style = np.where(exact, self.intents.style[chosen], rng.integers(0, self.world.styles, len(own)))
        items[own] = self.world.draw_from_pool(rng, self.intents.category[chosen], style, time[own])
        self._write(users, time, scene, behavior, items)
        self.focus[users], self.focus_slot[users] = items, slot
        self._favorite(users, scene, 0.06)

    def _item_page(self, users: np.ndarray) -> np.ndarray:
        self._write(users, np.floor(self.time[users]), s.ITEM_PAGE, s.VISIT, self.focus[users])
        self._favorite(users, s.ITEM_PAGE, 0.12)
        return np.where(self.focus_slot[users] >= 0, s.AFTER_ITEM_PAGE_INTENT, s.AFTER_ITEM_PAGE)

    def _favorite(self, users: np.ndarray, scene: int, chance: float) -> None:
        keen = users[self.rng.random(len(users)) < chance]
        self.time[keen] += 3.0
        self._write(keen, np.floor(self.time[keen]), scene, s.FAVORITE, self.focus[keen])

    def _cart(self, users: np.ndarray) -> np.ndarray:
        self._write(users, np.floor(self.time[users]), s.CART, s.ADD_TO_CART, self.focus[users])
        slot = self.focus_slot[users]
        bought = self.rng.random(len(users)) < np.where(slot >= 0, 0.6, 0.2)
        buyers, slot = users[bought], slot[bought]
        self.time[buyers] += 20.0 + self.rng.integers(0, 100, len(buyers))
        self._write(buyers, np.floor(self.time[buyers]), s.CART, s.PURCHASE, self.focus[buyers])
        ended = slot >= 0
        self.intents.purchase(buyers[ended], slot[ended], self.time[buyers[ended]], self.follow)
        return np.full(len(users), s.AFTER_CART)

    def _write(self, users, time, scene, behavior, items, label=None, request=None, position=None, probability=None):
        n = len(users)
        self._rows.append(
            (
                users + self.first_user,
                time.astype(np.int64),
                np.full(n, scene, np.int8),
                np.full(n, behavior, np.int8),
                items,
                np.full(n, -1, np.int8) if label is None else label.astype(np.int8),
                np.full(n, -1) if request is None else request,
                np.zeros(n, np.int16) if position is None else position.astype(np.int16),
                np.full(n, np.nan, np.float32) if probability is None else probability,
            )
        )

    def _columns(self) -> dict[str, np.ndarray]:
        rows, self._rows = self._rows, []
        if not rows:
            empty = np.zeros(0, np.int64)
            return dict.fromkeys(COLUMNS, empty)
        columns = {name: np.concatenate(parts) for name, parts in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
        order = np.argsort(columns["time"], kind="stable")
        return {name: values[order] for name, values in columns.items()}
