"""Make recommender.onnx: neural collaborative filtering that scores candidate items for a user.

From a SYNTHETIC world, drawn here from a seed; no real person or product is in it. Users and items have hidden taste
vectors, items also a popularity that falls off with their rank, and a user picks distinct items with probability
softmax(taste + popularity). One pick of each user is held out. At test time it stands at a random position among 99
items that the user never picked, and chance is 0.1 for hit_rate@10.

The net follows He et al., "Neural Collaborative Filtering" (2017): a factorization branch and a perceptron branch, each
with its own embeddings. The tables have more rows than there are active users and items, as real ones do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from common import FOLDER, SEED, check, export_classic, fit, report, run, save, start, tidy
from torch import Tensor, nn

USERS, ITEMS = 3000, 2000
ACTIVE_USERS, ACTIVE_ITEMS = 2700, 1800
TASTE, TASTE_SCALE, POPULARITY_SCALE = 4, 2.5, 0.5
PICKS = 40
NEGATIVES, TEST_NEGATIVES = 4, 99
TEST_USERS, CALIBRATION_USERS, TRAIN_SAMPLES = 1000, 128, 8192
BATCH, STEPS = 1024, 1000
AXES = {"user": {0: "batch"}, "items": {0: "batch", 1: "candidates"}, "score": {0: "batch", 1: "candidates"}}


class Recommender(nn.Module):
    """score = w . [p * q, perceptron(u, v)] for the user's embeddings p, u and each candidate's q, v."""

    def __init__(self, factors: int = 24, width: int = 32) -> None:
        super().__init__()
        self.user_factors, self.item_factors = nn.Embedding(USERS, factors), nn.Embedding(ITEMS, factors)
        self.user_features, self.item_features = nn.Embedding(USERS, width), nn.Embedding(ITEMS, width)
        for table in (self.user_factors, self.item_factors, self.user_features, self.item_features):
            nn.init.normal_(table.weight, std=0.1)
        layers = (nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.perceptron = nn.Sequential(*layers)
        self.score = nn.Linear(factors + 16, 1)

    def forward(self, user: Tensor, items: Tensor) -> Tensor:
        factors = self.user_factors(user).unsqueeze(1) * self.item_factors(items)
        item = self.item_features(items)
        person = self.user_features(user).unsqueeze(1).expand_as(item)
        features = self.perceptron(torch.cat([person, item], dim=2))
        return self.score(torch.cat([factors, features], dim=2)).squeeze(2)


class World(NamedTuple):
    """`picked[user, item]` is all that ever happened; `known` is that without `held_out[user]`, kept for the test."""

    picked: np.ndarray
    known: np.ndarray
    held_out: np.ndarray


def draw_world(chance: np.random.Generator) -> World:
    """PICKS items a user, drawn without replacement from softmax(taste + popularity) by the Gumbel top-k trick."""
    users, items = (chance.normal(size=(n, TASTE)) for n in (ACTIVE_USERS, ACTIVE_ITEMS))
    taste = TASTE_SCALE * users @ items.T / np.sqrt(TASTE)
    popularity = -POPULARITY_SCALE * np.log(1 + chance.permutation(ACTIVE_ITEMS))
    noisy = taste + popularity + chance.gumbel(size=taste.shape)
    picks = np.argpartition(-noisy, PICKS, axis=1)[:, :PICKS]
    picked = np.zeros(taste.shape, bool)
    np.put_along_axis(picked, picks, True, axis=1)
    everyone = np.arange(ACTIVE_USERS)
    held_out = picks[everyone, chance.integers(PICKS, size=ACTIVE_USERS)]
    known = picked.copy()
    known[everyone, held_out] = False
    return World(picked, known, held_out)


def with_negatives(
    picked: np.ndarray, users: np.ndarray, positives: np.ndarray, negatives: int, chance: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each user a shuffled row of one positive and distinct items not `picked`, and where the positive stands.

    In training `picked` is what is known then: were the held-out picks spared as negatives, they would leak.
    """
    keys = chance.random((len(users), ACTIVE_ITEMS), dtype=np.float32)
    keys[picked[users]] = 2
    items = np.argpartition(keys, negatives, axis=1)[:, : negatives + 1].astype(np.int64)
    position = chance.integers(negatives + 1, size=len(users))
    items[:, negatives] = items[np.arange(len(users)), position]
    items[np.arange(len(users)), position] = positives
    return items, position


def batches(world: World, chance: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Random known picks, each with fresh negatives."""
    users, positives = np.nonzero(world.known)
    while True:
        chosen = chance.integers(len(users), size=BATCH)
        items, position = with_negatives(world.known, users[chosen], positives[chosen], NEGATIVES, chance)
        yield torch.from_numpy(users[chosen]), torch.from_numpy(items), torch.from_numpy(position)


def ranks(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """How many candidates score at least as high as the positive (ties count against it)."""
    own = np.take_along_axis(scores, positive[:, None], axis=1)
    return (scores >= own).sum(axis=1) - 1


def top_10(scores: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    rank = ranks(scores, positive)
    gain = np.where(rank < 10, 1 / np.log2(rank + 2), 0)
    return {"hit_rate@10": float(np.mean(rank < 10)), "ndcg@10": float(gain.mean())}


def save_data(world: World, chance: np.random.Generator) -> dict[str, np.ndarray]:
    """Write the three data files and return the test; the other two are made from known picks alone."""
    users, positives = np.nonzero(world.known)
    rows = chance.choice(len(users), size=TRAIN_SAMPLES, replace=False)
    items, position = with_negatives(world.known, users[rows], positives[rows], NEGATIVES, chance)
    save("recommender-train.npz", user=users[rows], items=items, positive=position)
    rows = rows[:CALIBRATION_USERS]
    items, _ = with_negatives(world.known, users[rows], positives[rows], TEST_NEGATIVES, chance)
    save("recommender-calibration.npz", user=users[rows], items=items)
    people = np.sort(chance.choice(ACTIVE_USERS, size=TEST_USERS, replace=False))
    items, position = with_negatives(world.picked, people, world.held_out[people], TEST_NEGATIVES, chance)
    test = {"user": people, "items": items, "positive": position}
    save("recommender-test.npz", **test)
    return test


def main() -> None:
    chance = np.random.default_rng(SEED)
    world = draw_world(chance)
    test = save_data(world, chance)
    feed = {"user": test["user"], "items": test["items"]}
    start()
    module, path = Recommender(), FOLDER / "recommender.onnx"
    fit(module, batches(world, chance), nn.functional.cross_entropy, steps=STEPS, rate=5e-3, decay=0.5)
    example = {name: torch.from_numpy(array[:2]) for name, array in feed.items()}
    export_classic(module, example, "score", AXES, path)
    tidy(path)
    check(path, module, feed)
    by_popularity = top_10(world.known.sum(axis=0)[test["items"]], test["positive"])["hit_rate@10"]
    report(path, **top_10(run(path, feed), test["positive"]), hit_rate_of_popularity_alone=by_popularity)


if __name__ == "__main__":
    main()
