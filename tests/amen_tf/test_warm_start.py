"""Weights of an earlier run in the ids of this one: by hand, as properties, and in every model."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.features import AGE, CANDIDATE, MOVELINE, SCENE, Feature, FeatureContract
from amen_tf.fitting.generator import start_warm
from amen_tf.initialization import InitializationError, named_weights
from amen_tf.models.candidate_ranker import MERGE_INPUTS
from amen_tf.models.ctr import CtrModel
from amen_tf.models.frozen_generator import export_generator
from amen_tf.models.generator import Generator
from amen_tf.models.registry import RANKERS, make_ranker
from amen_tf.optimizer import LazyAdamW
from amen_tf.spec import ModelSpec
from amen_tf.warm_start import Ids, WarmStart, matching_rows, meaning_of_table, moved, word_counts
from tests.amen_tf import batches
from tests.amen_tf.layers.harness import randomise

CONTRACT = FeatureContract(
    5,
    2,
    (
        Feature("brand", "item", "categorical"),
        Feature("price", "candidate", "numeric", buckets=3),
        Feature("age", "user", "categorical"),
    ),
)
ITEMS = "encoder/items/tables/item_id/table"


def ids(items=(), unseen=2, hashed=None, price=3, **words):
    """What ids stand for in a run with these items, and one word of every other meaning."""
    words = {m: [b"w"] for m in CONTRACT.categorical_meanings} | {"item_id": list(items)} | words
    words = {meaning: known for meaning, known in words.items() if meaning not in (hashed or {})}
    sizes = {meaning: 1 + unseen + len(known) for meaning, known in words.items()}
    sizes |= {meaning: 1 + buckets for meaning, buckets in (hashed or {}).items()} | {"price": 1 + price}
    shape = batches.spec().shape
    return Ids(ModelSpec(CONTRACT, sizes, shape, 1, unseen, tuple(hashed or ())), words)


def numbered(ids, meaning, start=10.0):
    """A table of one column whose rows are start, start + 1, ..."""
    return np.arange(start, start + ids.spec.sizes[meaning])[:, np.newaxis]


def move(source, target, name=ITEMS, meaning="item_id"):
    """The one column of a moved table; None if it was left out."""
    found = moved({name: numbered(source, meaning)}, source, {name: (target.spec.sizes[meaning], 1)}, target)
    return found[name][:, 0].tolist() if name in found else None


def test_rows_follow_their_words():
    source, target = ids([b"a", b"b", b"c"]), ids([b"c", b"d", b"a"])
    # Nothing, two buckets, then words: c was row 5, d is new, a was row 3; b has gone.
    assert move(source, target) == [10, 11, 12, 15, 0, 13]
    assert word_counts(source, target)["item_id"] == {"kept": 2, "new": 1, "gone": 1}


def test_words_follow_where_the_number_of_buckets_is_another():
    source, target = ids([b"a", b"b"], unseen=2), ids([b"b", b"a"], unseen=3)
    # A value of bucket 1 of 2 need not be in bucket 1 of 3.
    assert move(source, target) == [10, 0, 0, 0, 14, 13]
    assert move(target, source) == [10, 0, 0, 15, 14]


def test_nothing_in_common_but_the_buckets():
    assert move(ids([b"a"]), ids([b"b", b"c"])) == [10, 11, 12, 0, 0]
    assert move(ids([]), ids([b"b"])) == [10, 11, 12, 0]


def test_hashed_values_keep_their_buckets_if_there_are_as_many():
    hashed = ids(hashed={"item_id": 4})
    assert move(hashed, ids(hashed={"item_id": 4})) == [10, 11, 12, 13, 14]
    assert move(hashed, ids(hashed={"item_id": 5})) is None
    assert word_counts(hashed, hashed).keys() == {"age", "behavior", "brand", "category_id", "scene"}


def test_what_has_a_vocabulary_in_one_run_alone_is_left_out():
    # Of one size by chance.
    hashed, words = ids(hashed={"item_id": 4}), ids([b"a", b"b"])
    assert hashed.spec.sizes["item_id"] == words.spec.sizes["item_id"]
    assert move(hashed, words) is None and move(words, hashed) is None


def test_buckets_of_numbers_keep_their_place_if_there_are_as_many():
    name = "candidate_side/tables/candidate_price/table"
    assert move(ids(), ids(), name, "price") == [10, 11, 12, 13]
    assert move(ids(), ids(price=4), name, "price") is None


def test_a_feature_that_is_new_is_left_as_it_is():
    source = ids([b"a"])
    contract = dataclasses.replace(CONTRACT, declared=CONTRACT.declared[1:])
    sizes, words = (
        {meaning: value for meaning, value in content.items() if meaning != "brand"}
        for content in (source.spec.sizes, source.words)
    )
    without = Ids(dataclasses.replace(source.spec, contract=contract, sizes=sizes), words)
    assert not len(matching_rows("brand", without, source).target)
    assert "brand" not in word_counts(without, source)


def test_other_weights_and_tables_of_another_width_pass_as_they_are():
    source, target = ids([b"a"]), ids([b"b", b"a"])
    weights = {"merge/logit/bias": np.ones(1), "decoder/kernel": np.ones((2, 3)), ITEMS: np.ones((4, 2))}
    found = moved(weights, source, {"merge/logit/bias": (1,), ITEMS: (5, 3)}, target)
    assert found.keys() == weights.keys() and all(found[name] is weights[name] for name in weights)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        (ITEMS, "item_id"),
        ("encoder/items/tables/brand/table", "brand"),
        ("encoder/events/scene/table", "scene"),
        ("matched/behavior/table", "behavior"),
        ("request_side/tables/scene/table", "scene"),
        ("candidate_side/tables/candidate_price/table", "price"),
        ("wide/category_id/table", "category_id"),
        # A declared feature has the name that buckets of time have elsewhere.
        ("request_side/tables/age/table", "age"),
        ("encoder/events/age/table", None),
        ("matched/age/table", None),
        ("encoder/events/position", None),
        ("merge/hidden/0/kernel", None),
    ],
)
def test_tables_are_known_by_their_path(name, meaning):
    assert meaning_of_table(name, CONTRACT) == meaning


WORDS = st.lists(st.sampled_from([bytes([letter]) for letter in range(97, 117)]), unique=True, max_size=12)


@given(WORDS)
def test_the_same_words_in_the_same_order_change_nothing(words):
    run = ids(words)
    assert move(run, run) == numbered(run, "item_id")[:, 0].tolist()


@given(WORDS, WORDS, st.integers(1, 3), st.integers(1, 3))
def test_there_and_back_again_keeps_what_both_have(one, other, unseen, other_unseen):
    here, there = ids(one, unseen), ids(other, other_unseen)
    before = numbered(here, "item_id")
    away = moved({ITEMS: before}, here, {ITEMS: (there.spec.sizes["item_id"], 1)}, there)
    back = moved(away, there, {ITEMS: before.shape}, here)[ITEMS]
    buckets = [True] * unseen if unseen == other_unseen else [False] * unseen
    kept = np.array([True, *buckets, *(word in other for word in one)])
    np.testing.assert_array_equal(back[kept], before[kept])
    assert (back[~kept] == 0).all()
    counts = word_counts(here, there)["item_id"]
    both = len({*one} & {*other})
    assert counts == {"kept": both, "new": len(other) - both, "gone": len(one) - both}


# In models: two runs with the same words in another order, and some words of their own.

UNSEEN = 2


@pytest.fixture(scope="module")
def runs():
    """The ids of two runs, and for every meaning the id in the second of each id of the first that both have."""
    rng, made = np.random.default_rng(3), []
    sizes = {m: size for m, size in batches.SIZES.items() if m != "price"}
    for run in ("one", "two"):
        words = {}
        for meaning, size in sizes.items():
            shared = [f"{meaning}{i}".encode() for i in range(size)]
            words[meaning] = [*shared, *(f"{run}{i}".encode() for i in range(len(made) + 2))]
            rng.shuffle(words[meaning])
        spec = batches.spec(seed=5 + len(made))
        numbers = {m: 1 + UNSEEN + len(known) for m, known in words.items()} | {"price": batches.SIZES["price"]}
        made.append(Ids(dataclasses.replace(spec, sizes=numbers, unseen=UNSEEN), words))
    return made


@pytest.fixture(scope="module")
def requests(runs):
    """The same requests as each run's Transform would give them, of words that both have."""
    one, two = runs
    there = {meaning: dict(zip(*matching_rows(meaning, one, two), strict=True)) for meaning in one.spec.sizes}
    common = {meaning: np.array(sorted(rows.keys() - {0})) for meaning, rows in there.items()}
    first, second = {}, {}
    for name, column in batches.batch(batches.spec(), rows=9, seed=4).items():
        field = name.removeprefix(MOVELINE).removeprefix(CANDIDATE)
        for prefix in ("future_", "diff_clicked_", "diff_unclicked_"):
            field = field.removeprefix(prefix)
        meaning = one.spec.contract.meaning_of(field)
        first[name] = second[name] = column
        if meaning in there and field != AGE and not name.endswith(("_length", "mask", "label", "user_key")):
            picked = common[meaning][column.numpy() % len(common[meaning])]
            here = np.where(column == 0, 0, picked)
            first[name] = tf.constant(here, tf.int64)
            second[name] = tf.constant(np.vectorize(lambda i, m=meaning: there[m][i])(here), tf.int64)
    return first, second


def values(model):
    return {name: weight.numpy() for name, weight in named_weights(model).items()}


def warm_from(model, runs):
    return WarmStart(values(model), *runs)


def test_the_requests_differ_in_their_ids(requests):
    first, second = requests
    for name in (SCENE, MOVELINE + "item_id", MOVELINE + "behavior", CANDIDATE + "brand", "likes_1"):
        assert (first[name] != second[name]).numpy().any(), name


@pytest.mark.parametrize("name", RANKERS)
def test_a_ranker_that_starts_warm_scores_as_the_earlier_one(name, runs, requests):
    models = [make_ranker(name, run.spec) for run in runs]
    for model, features in zip(models, requests, strict=True):
        model(features)
    randomise(models[0])
    report = warm_from(models[0], runs).into(models[1])
    assert set(report.copied) == set(values(models[1])) and not report.absent and not report.other_shape
    np.testing.assert_allclose(models[1](requests[1]), models[0](requests[0]), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def generators(runs, requests):
    """The generators of both runs, the second one started warm from the first."""
    settings, made = GeneratorSettings(sampled_negatives=5), []
    for run, features in zip(runs, requests, strict=True):
        made.append(Generator(run.spec, settings, batches.catalogue(run.spec)))
        made[-1].compute_losses(features, False, tf.constant([0, 0], tf.int64))
        made[-1](features)
    randomise(made[0])
    known = {meaning: np.array([0]) for meaning in runs[1].spec.sizes}
    report = start_warm(made[1], warm_from(made[0], runs), known)
    assert set(report.copied) == set(values(made[1]))
    return made


def test_a_generator_that_starts_warm_has_the_same_flow(generators, requests):
    # Though its window has no item at all: it knows what the earlier one had learned.
    one, two = (model.generate(features) for model, features in zip(generators, requests, strict=True))
    np.testing.assert_allclose(two.states, one.states, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two.previous, one.previous, rtol=1e-5, atol=1e-6)


def test_a_ctr_model_that_starts_warm_scores_as_the_earlier_one(generators, runs, requests, tmp_path):
    models = []
    for place, (run, features) in enumerate(zip(runs, requests, strict=True)):
        export_generator(generators[place], tmp_path / str(place))
        models.append(CtrModel(run.spec, CtrSettings(flow_similarity=True), tmp_path / str(place)))
        models[-1](features)
    randomise(models[0])
    report = warm_from(models[0], runs).into(models[1])
    assert set(report.copied) == set(values(models[1]))
    np.testing.assert_allclose(models[1](requests[1]), models[0](requests[0]), rtol=1e-4, atol=1e-5)


def built_generators(runs, requests):
    """A generator of each run, the first one with learned weights, so to speak."""
    settings = GeneratorSettings(sampled_negatives=5)
    models = [Generator(run.spec, settings, batches.catalogue(run.spec)) for run in runs]
    for model, features in zip(models, requests, strict=True):
        model.compute_losses(features, False, tf.constant([0, 0], tf.int64))
        model(features)
    randomise(models[0])
    return models


def table_of(model, meaning):
    return model.encoder.items.tables[meaning].table.numpy()


def ids_of_new_words(run, meaning):
    return [1 + UNSEEN + i for i, word in enumerate(run.words[meaning]) if word.startswith(b"two")]


def test_words_that_are_new_start_at_zero(runs, requests):
    rankers = [make_ranker("wide_and_deep", run.spec) for run in runs]
    for model, features in zip(rankers, requests, strict=True):
        model(features)
    randomise(rankers[0])
    before = values(rankers[1])
    warm_from(rankers[0], runs).into(rankers[1])
    found = {name: meaning_of_table(name, runs[1].spec.contract) for name in values(rankers[1])}
    tables = {name: meaning for name, meaning in found.items() if meaning in runs[1].words}
    assert set(tables.values()) == set(runs[1].words)
    for name, meaning in tables.items():
        table, new = values(rankers[1])[name], ids_of_new_words(runs[1], meaning)
        assert len(new) == 3 and before[name][new].any(1).all()
        np.testing.assert_array_equal(table[new], 0)
        assert table[matching_rows(meaning, *runs).target[1:]].any(1).all(), name


def test_what_the_earlier_generator_was_silent_about_starts_at_zero(runs, requests):
    one, two = runs
    models = built_generators(runs, requests)
    rows = matching_rows("item_id", one, two)
    silent, learned, back = rows.source[-3:], rows.source[-4], rows.target[-3]
    table = models[0].encoder.items.tables["item_id"].table
    table.assign(np.where(np.isin(np.arange(table.shape[0]), silent)[:, np.newaxis], 0, table.numpy()))
    new, other, _ = ids_of_new_words(two, "item_id")
    known = {meaning: np.array([0, 3, 4]) for meaning in two.spec.sizes} | {"item_id": np.array([0, back, new])}
    start_warm(models[1], warm_from(models[0], runs), known)
    now = table_of(models[1], "item_id")
    # Whether the window has it or not.
    np.testing.assert_array_equal(now[[back, new, other, *rows.target[-2:]]], 0)
    # Not in the window: as it was learned.
    np.testing.assert_array_equal(now[rows.target[-4]], table.numpy()[learned])


def test_noise_in_a_table_that_the_earlier_generator_lacks_is_not_taken_for_learned(runs, requests):
    models = built_generators(runs, requests)
    warm = warm_from(models[0], runs)
    brands = "encoder/items/tables/brand/table"
    lacking = dataclasses.replace(warm, weights={n: w for n, w in warm.weights.items() if n != brands})
    fresh = table_of(models[1], "brand")
    known = {meaning: np.array([0]) for meaning in runs[1].spec.sizes} | {"brand": np.array([0, 4, 5])}
    assert brands in start_warm(models[1], lacking, known).absent
    now, ids = table_of(models[1], "brand"), np.arange(len(fresh))
    np.testing.assert_array_equal(now[[4, 5]], fresh[[4, 5]])
    assert fresh[np.setdiff1d(ids, range(1 + UNSEEN))].any(1).all()
    np.testing.assert_array_equal(now[np.setdiff1d(ids, [4, 5])], 0)


def test_a_new_item_of_a_new_category_says_nothing_and_is_learned(runs, requests):
    one, two = runs
    models = built_generators(runs, requests)
    every = {meaning: np.arange(size) for meaning, size in two.spec.sizes.items()}
    start_warm(models[1], warm_from(models[0], runs), every)
    generator, fields = models[1], two.spec.contract.item_fields
    # All that is known of it is new.
    new = {field: ids_of_new_words(two, two.spec.contract.meaning_of(field))[0] for field in fields}
    item = {field: tf.constant([[id_]]) for field, id_ in new.items()}
    for vectors in (generator.item_vectors(item), generator.known_of(item).beyond_category):
        np.testing.assert_array_equal(vectors, 0)
    # Every request is followed by it.
    features = requests[1] | {
        "future_" + field: tf.fill((9, 3), tf.constant(id_, tf.int64)) for field, id_ in new.items()
    }
    with tf.GradientTape() as tape:
        loss = generator.compute_losses(features, True, tf.constant([0, 0], tf.int64))["loss"]
    gradient = tape.gradient(loss, generator.encoder.items.tables["item_id"].table)
    size = np.linalg.norm(tf.convert_to_tensor(gradient).numpy()[new["item_id"]])
    assert np.isfinite(loss) and 0.0 < size < 1e3
    generator.compile(optimizer=LazyAdamW(0.01))
    for _ in range(40):
        generator.train_step(features)
    similar = generator.generate(features).states @ tf.transpose(generator.item_vectors(item)[0])
    assert tf.reduce_mean(similar) > 0.8


def test_another_width_is_refused_with_what_to_do(runs, requests):
    one, two = runs
    shape = two.spec.shape.model_copy(update={"dim": 12, "heads": 4})
    model = make_ranker("base", dataclasses.replace(two.spec, shape=shape))
    model(requests[1])
    warm = WarmStart({"merge/hidden/0/bias": np.zeros(8)}, one, two._replace(spec=model.spec))
    with pytest.raises(
        InitializationError, match=r"model\.dim 8, got 12, model\.heads 2, got 4\..*warm_start\.enabled=false"
    ):
        warm.into(model)


def test_match_features_that_come_or_go_are_refused(runs, requests):
    # With three features of candidates more the merge MLP would have as many inputs as before, of another meaning.
    one, two = runs
    spec = dataclasses.replace(two.spec, shape=two.spec.shape.model_copy(update={"match_features": False}))
    with pytest.raises(InitializationError, match=r"model\.match_features True, got False"):
        WarmStart({"merge/hidden/0/bias": np.zeros(8)}, one, two._replace(spec=spec)).into(make_ranker("base", spec))


def test_weights_of_another_shape_are_left_and_told(runs, requests):
    one, two = runs
    shape = two.spec.shape.model_copy(update={"hidden_units": (16, 4)})
    models = [make_ranker("base", one.spec), make_ranker("base", dataclasses.replace(two.spec, shape=shape))]
    for model, features in zip(models, requests, strict=True):
        model(features)
    before = values(models[1])
    report = warm_from(models[0], (one, two._replace(spec=models[1].spec))).into(models[1])
    assert set(report.other_shape) == {"merge/hidden/0/kernel", "merge/hidden/0/bias", "merge/logit/kernel"}
    for name in report.other_shape:
        np.testing.assert_array_equal(values(models[1])[name], before[name])


POSITION, PRICE, DEVICE, LIKES = (batches.DECLARED[place] for place in (1, 2, 3, 5))
CANDIDATES, REQUESTS = MERGE_INPUTS


@pytest.mark.parametrize(
    ("declared", "left"),
    [
        # Two features of an owner in the other order; one of each owner instead.
        ((PRICE, POSITION, DEVICE, LIKES), {CANDIDATES}),
        ((POSITION, PRICE, LIKES, DEVICE), {REQUESTS}),
        ((POSITION, LIKES, PRICE, DEVICE), {REQUESTS}),
        # Of owners whose features do not lie side by side the order is the same.
        ((DEVICE, POSITION, PRICE, LIKES), set()),
        # Another feature in the place of one, which has as many rows.
        ((POSITION, dataclasses.replace(PRICE, name="rank"), DEVICE, LIKES), {CANDIDATES}),
        ((POSITION, dataclasses.replace(PRICE, kind="categorical"), DEVICE, LIKES), {CANDIDATES}),
        ((POSITION, PRICE, DEVICE, dataclasses.replace(LIKES, values=2)), {REQUESTS}),
    ],
)
@pytest.mark.parametrize("name", RANKERS)
def test_no_feature_is_read_through_the_rows_of_another(name, declared, left, runs, requests):
    one, two = runs
    items = tuple(feature for feature in batches.DECLARED if feature.owner == "item")
    contract = dataclasses.replace(two.spec.contract, declared=(*items, *declared))
    spec = dataclasses.replace(two.spec, contract=contract, sizes={**two.spec.sizes, "rank": two.spec.sizes["price"]})
    models = [make_ranker(name, one.spec), make_ranker(name, spec)]
    features = [requests[0], requests[1] | {CANDIDATE + "rank": requests[1][CANDIDATE + "price"]}]
    for model, of_run in zip(models, features, strict=True):
        model(of_run)
    randomise(models[0])
    before = values(models[1])
    report = warm_from(models[0], (one, two._replace(spec=spec))).into(models[1])
    assert {n for n in (*report.absent, *report.other_shape) if n in MERGE_INPUTS} == left
    for kernel in MERGE_INPUTS:
        expected = before if kernel in left else values(models[0])
        np.testing.assert_array_equal(values(models[1])[kernel], expected[kernel])


def test_a_source_that_has_nothing_for_the_model_is_an_error(runs, requests):
    model = make_ranker("base", runs[1].spec)
    model(requests[1])
    with pytest.raises(InitializationError, match="copied nothing"):
        WarmStart({"other/kernel": np.zeros(3)}, *runs).into(model)
