"""The simulator's scenes and behaviours by number, and the Markov chain that leads from scene to scene.

In: nothing. Out: constants.
"""

import numpy as np

SCENES = ("feed", "search", "live", "content", "item_page", "cart")
FEED, SEARCH, LIVE, CONTENT, ITEM_PAGE, CART = range(6)
# Not a scene: the session is over.
END = 6
BEHAVIORS = ("impression", "click", "search", "visit", "favorite", "cart", "purchase")
IMPRESSION, CLICK, SEARCHES, VISIT, FAVORITE, ADD_TO_CART, PURCHASE = range(7)

# Rows of NEXT: what just happened. "Intent" means that the item on the page came from one of the user's intents.
AFTER_FEED, AFTER_FEED_CLICK, AFTER_SEARCH, AFTER_SEARCH_CLICK, AFTER_LIVE, AFTER_CONTENT = range(6)
AFTER_ITEM_PAGE, AFTER_ITEM_PAGE_INTENT, AFTER_CART = range(6, 9)
# Columns: feed, search, live, content, item page, cart, end of the session.
NEXT = np.array(
    [
        [0.46, 0.10, 0.08, 0.10, 0.00, 0.00, 0.26],
        [0.16, 0.05, 0.02, 0.03, 0.66, 0.00, 0.08],
        [0.30, 0.30, 0.08, 0.12, 0.00, 0.00, 0.20],
        [0.22, 0.20, 0.04, 0.08, 0.34, 0.00, 0.12],
        [0.34, 0.12, 0.18, 0.10, 0.08, 0.00, 0.18],
        [0.36, 0.14, 0.08, 0.18, 0.08, 0.00, 0.16],
        [0.44, 0.14, 0.05, 0.08, 0.00, 0.05, 0.24],
        [0.32, 0.10, 0.03, 0.05, 0.00, 0.34, 0.16],
        [0.36, 0.10, 0.05, 0.09, 0.00, 0.00, 0.40],
    ]
)
# How sessions begin: feed, search, live, content, item page, cart.
START = np.array([0.46, 0.20, 0.12, 0.22, 0.00, 0.00])
# What this chain yields, measured; it turns requests per user into sessions per user.
FEED_REQUESTS_PER_SESSION = 2.2


def choose(rng: np.random.Generator, chances: np.ndarray) -> np.ndarray:
    """One column per row of chances `[n, k]`, each row summing to 1: int64 `[n]`."""
    mass = rng.random(len(chances))[:, None]
    return (np.cumsum(chances, axis=1) <= mass).sum(axis=1).clip(max=chances.shape[1] - 1)
