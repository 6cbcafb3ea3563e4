"""The Transform graph on requests written by hand: analysed on training requests, then applied to others.

Raw requests go in as serialized tf.Examples and leave through the saved graph, as in every exported model.
"""

import dataclasses
import math
import re

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from amen_tf.config import ModelSettings, TransformSettings
from amen_tf.features import AGE_BUCKETS, SPAN, Feature, FeatureContract
from amen_tf.signatures import TransformGraph, raw_feature_spec
from pipeline.preprocessing import AGE_BORDERS, age_bucket, preprocessing_fn
from pipeline.vocabularies import item_counts, item_words, model_spec

LENGTH, FLOW, OOV, NOW = 3, 2, 2, 1_700_000_000
# Ids of categories: 0 nothing, 1..OOV unseen, then words.
FIRST_WORD = 1 + OOV
# Measuring the size of every cached side input takes Beam longer than all the rest.
OPTIONS = PipelineOptions(["--max_cache_memory_usage_mb=0"])
CONTRACT = FeatureContract(
    LENGTH,
    FLOW,
    (
        Feature("brand", "item", "categorical"),
        Feature("cost", "item", "numeric", buckets=4),
        Feature("segment", "user", "categorical"),
        Feature("unknown", "context", "numeric", buckets=3),
        Feature("tags", "item", "multi_valued", values=2),
        Feature("likes", "user", "multi_valued", values=3),
    ),
)
KINDS = {column.name: column.kind for column in CONTRACT.raw_columns}


def request(candidates, *, user="u", scene="feed", moveline=(), future=(), now=NOW, **other):
    """Raw columns of a request; candidates and futures are item ids, events are (item, seconds before now)."""
    columns = {
        "user_id": [user],
        "timestamp": [now],
        "scene": [scene],
        "candidate_item_id": list(candidates),
        "moveline_item_id": [item for item, _ in moveline],
        "moveline_timestamp": [now - age for _, age in moveline],
        "future_item_id": list(future),
        "label": [0] * len(candidates),
    }
    filler = {
        "moveline_scene": ("feed", moveline),
        "moveline_behavior": ("click", moveline),
        **{f"{p}_{f}": (fill, rows) for p, rows in (("moveline", moveline), ("candidate", candidates),
           ("future", future)) for f, fill in (("category_id", ""), ("brand", ""), ("tags", ""),
           ("cost", math.nan))},
    }  # fmt: skip
    columns |= {name: [value] * len(rows) for name, (value, rows) in filler.items()}
    return columns | other


# Items by frequency over moveline, candidates and futures: a 5, b 4, c 3, d 2, e 1; ids follow that order.
TRAINING = [
    request(["a", "b", "c", "d"], moveline=[("a", 9), ("b", 5)], future=["c"], segment=["gold"],
            # Costs of movelines repeat and must not move the boundaries, which candidates alone decide.
            candidate_tags=["jazz|live", "jazz", "", "rock|jazz"], likes=["live|jazz|live"],
            candidate_cost=[1.0, 2.0, 3.0, 4.0], moveline_cost=[500.0, 500.0], candidate_brand=["x", "x", "y", ""]),
    request(["a", "b", "c", "d"], moveline=[("a", 9)], future=["b", "a"], segment=["gold"],
            candidate_cost=[5.0, 6.0, 7.0, 8.0], scene="search"),
    request(["e"], user="v", segment=["blue"], unknown=[math.nan]),
    # A user and a context of whom nothing is declared.
    request([""], user="w"),
]  # fmt: skip
ITEM = {word: FIRST_WORD + place for place, word in enumerate("abcde")}


def serialized(columns):
    feature = {}
    for name, values in columns.items():
        if KINDS[name] == "string":
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))
        elif KINDS[name] == "int":
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def analyse(folder, requests, stage1_end=None, contract=CONTRACT, **settings):
    """Transform's output for these requests."""
    settings = TransformSettings(**{"oov_buckets": OOV, "max_words": 100, **settings}).model_dump()
    config = {"contract": dataclasses.asdict(contract), "stage1_end": stage1_end, **settings}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(raw_feature_spec(contract)))
    rows = [{column.name: columns.get(column.name, []) for column in contract.raw_columns} for columns in requests]
    with beam.Pipeline(options=OPTIONS) as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        data = pipeline | beam.Create(rows)
        _, transform_fn = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
        _ = transform_fn | tft_beam.WriteTransformFn(str(folder))
    return tft.TFTransformOutput(str(folder))


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """Transform's output for TRAINING."""
    return analyse(tmp_path_factory.mktemp("transform"), TRAINING)


@pytest.fixture(scope="module")
def transform(analysed):
    """`transform(*requests)`, see `transformer`."""
    return transformer(analysed)


def transformer(analysed, contract=CONTRACT):
    """Requests -> transformed columns as NumPy arrays; candidate columns as one list per request."""
    graph = TransformGraph(analysed.transform_savedmodel_dir)

    def _transform(*requests):
        raw = tf.io.parse_example([serialized(r) for r in requests], raw_feature_spec(contract))
        return {
            name: tf.RaggedTensor.from_sparse(value).to_list() if isinstance(value, tf.SparseTensor) else value.numpy()
            for name, value in graph(raw).items()
        }

    return _transform


def test_words_get_ids_by_falling_frequency_after_the_unseen_buckets(analysed, transform):
    assert analysed.vocabulary_by_name("item_id") == [b"a", b"b", b"c", b"d", b"e"]
    made = transform(request(["e", "d", "c", "b", "a"], future=["d"], moveline=[("e", 1)]))
    assert made["candidate_item_id"] == [[7, 6, 5, 4, 3]]
    # One vocabulary for all columns of one meaning: the same item has the same id everywhere.
    assert made["future_item_id"][0, 0] == ITEM["d"] and made["moveline_item_id"][0, -1] == ITEM["e"]


def test_values_never_seen_share_the_hashed_buckets_and_nothing_is_zero(transform):
    made = transform(request([f"new{n}" for n in range(50)]), request([""]))
    assert set(made["candidate_item_id"][0]) == {1, 2}
    assert made["candidate_item_id"][1] == [0]
    assert made["candidate_category_id"][1] == [0]


def test_scene_and_declared_request_features(analysed, transform):
    # gold is seen twice, blue once; feed twice among the requests and more often in the movelines.
    assert analysed.vocabulary_by_name("segment") == [b"gold", b"blue"]
    made = transform(
        request(["a"], segment=["blue"]), request(["a"], segment=["gold"], scene="search"), request(["a"], scene="tv")
    )
    np.testing.assert_array_equal(made["segment"], [FIRST_WORD + 1, FIRST_WORD, 0])
    assert made["scene"][0] == FIRST_WORD and made["scene"][1] == FIRST_WORD + 1 and made["scene"][2] in (1, 2)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    # 1 + floor(2 log2 s): 3 s: 2 * 1.58 = 3.17; a minute: 2 * 5.907 = 11.8; an hour: 2 * 11.81; a day: 2 * 16.399.
    [(-5, 1), (0, 1), (1, 1), (2, 3), (3, 4), (4, 5), (60, 12), (3_600, 24), (86_400, 33), (2**40, AGE_BUCKETS)],
)
def test_ages_by_hand(seconds, bucket):
    assert age_bucket(tf.constant([seconds], tf.int64)).numpy() == [bucket]


def test_ages_at_powers_of_two_do_not_slip_to_the_bucket_below():
    powers = np.arange(32)
    np.testing.assert_array_equal(age_bucket(tf.constant(2**powers, tf.int64)), 1 + 2 * powers)


def test_age_borders_are_the_first_whole_second_of_each_half_power():
    assert all((border - 1) ** 2 < 2**k <= border**2 for k, border in enumerate(AGE_BORDERS, start=1))


def test_movelines_are_padded_on_the_left_and_keep_the_newest(transform):
    made = transform(
        request(["a"], moveline=[("a", 60), ("b", 2)]),
        request(["a"], moveline=[("e", 99), ("d", 60), ("c", 4), ("b", 3), ("a", 1)]),
        request(["a"]),
    )
    np.testing.assert_array_equal(made["moveline_item_id"], [[0, 3, 4], [5, 4, 3], [0, 0, 0]])
    np.testing.assert_array_equal(made["moveline_age"], [[0, 12, 3], [5, 4, 1], [0, 0, 0]])
    assert made["moveline_item_id"].dtype == np.int64 and made["moveline_item_id"].shape == (3, LENGTH)


def test_an_event_without_an_item_keeps_its_place(transform):
    # A search carries no item; its scene, behaviour and age must not slide under another event's item.
    made = transform(request(["a"], moveline=[("a", 60), ("", 4), ("b", 2)], moveline_scene=["feed", "search", "feed"]))
    np.testing.assert_array_equal(made["moveline_item_id"], [[3, 0, 4]])
    np.testing.assert_array_equal(made["moveline_scene"], [[FIRST_WORD, FIRST_WORD + 1, FIRST_WORD]])
    np.testing.assert_array_equal(made["moveline_age"], [[12, 5, 3]])
    assert (made["moveline_behavior"] != 0).all()


def test_futures_are_padded_on_the_right_and_cut(transform):
    made = transform(request(["a"], future=["b"]), request(["a"], future=["c", "b", "a"]), request(["a"]))
    np.testing.assert_array_equal(made["future_item_id"], [[4, 0], [5, 4], [0, 0]])


def test_candidates_and_labels_stay_lists_of_their_own_length(transform):
    made = transform(request(["a", "new", "b"], label=[0, 1, 0]), request(["c"], label=[1]))
    assert [len(row) for row in made["candidate_item_id"]] == [3, 1]
    assert made["label"] == [[0, 1, 0], [1]]


def test_absent_diff_samples_are_zero(transform):
    diff = {
        "diff_clicked_item_id": ["b"],
        "diff_clicked_category_id": [""],
        "diff_clicked_brand": ["y"],
        "diff_clicked_moveline_length": [2],
    }
    made = transform(request(["a"]), request(["a"], **diff))
    np.testing.assert_array_equal(made["diff_clicked_item_id"], [0, ITEM["b"]])
    # x twice, y once
    np.testing.assert_array_equal(made["diff_clicked_brand"], [0, FIRST_WORD + 1])
    np.testing.assert_array_equal(made["diff_clicked_moveline_length"], [0, 2])
    for name in ("item_id", "category_id", "brand", "cost", "moveline_length"):
        np.testing.assert_array_equal(made[f"diff_unclicked_{name}"], [0, 0])


def test_numbers_go_to_quantile_buckets_and_missing_ones_to_zero(transform):
    costs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, -100.0, 100.0, math.nan]
    made = transform(
        request(["a"] * len(costs), candidate_cost=costs, moveline=[("a", 3), ("b", 2), ("c", 1)],
                moveline_cost=[4.0, math.nan, 500.0])
    )  # fmt: skip
    # Eight costs seen once each in four buckets: two a bucket; beyond them the outermost bucket.
    assert made["candidate_cost"] == [[1, 1, 2, 2, 3, 3, 4, 4, 1, 4, 0]]
    np.testing.assert_array_equal(made["moveline_cost"], [[2, 0, 4]])


def test_a_number_that_training_never_saw(transform):
    # Nothing is known about how its values are spread: any bucket will do, outside its range none.
    made = transform(request(["a"], unknown=[3.0]), request(["a"], unknown=[math.nan]), request(["a"]))["unknown"]
    assert 1 <= made[0] <= 3 and made[1] == made[2] == 0


def test_users_differ_by_key_and_only_by_user(transform):
    made = transform(*[request(["a"], user=u, moveline=m) for u, m in (("u", ()), ("v", ()), ("u", [("b", 1)]))])
    first, second, third = made["user_key"]
    assert first == third != second


def test_the_raw_columns_and_nothing_else_decide(transform):
    # Requests of a batch must not see each other: alone or among others, the same result.
    rows = [request(["a", "b"], moveline=[("a", 5)]), request(["c"]), request(["d"] * 7, moveline=[("b", 2)] * 5)]
    together = transform(*rows)
    for number, row in enumerate(rows):
        for name, values in transform(row).items():
            np.testing.assert_array_equal(values[0], together[name][number], err_msg=name)


def test_several_values_are_columns_of_one_vocabulary(analysed, transform):
    assert analysed.vocabulary_by_name("tags") == [b"jazz", b"rock", b"live"]
    assert analysed.vocabulary_by_name("likes") == [b"live", b"jazz"]
    jazz, rock, live = range(FIRST_WORD, FIRST_WORD + 3)
    made = transform(
        # What comes behind the second value is left out; blanks around values and an unknown one do no harm.
        request(["a", "b", "c", "d"], moveline=[("a", 9)], future=["b"], moveline_tags=["rock"],
                future_tags=["live|jazz"], likes=["jazz"],
                candidate_tags=["rock|live|jazz", " live | jazz", "", "new"]),
        request(["a"]),
    )  # fmt: skip
    assert made["candidate_tags_1"][0][:3] == [rock, live, 0] and made["candidate_tags_1"][0][3] in (1, 2)
    assert made["candidate_tags_2"][0] == [live, jazz, 0, 0]
    assert made["moveline_tags_1"][0].tolist() == [0, 0, rock] and not made["moveline_tags_2"].any()
    assert made["future_tags_1"][0, 0] == live and made["future_tags_2"][0, 0] == jazz
    assert [made[f"likes_{place}"].tolist() for place in (1, 2, 3)] == [[FIRST_WORD + 1, 0], [0, 0], [0, 0]]
    assert not any(name.endswith(("_tags", "likes")) for name in made)


def spec_of(analysed, **settings):
    shape = ModelSettings(moveline_length=LENGTH, flow_length=FLOW)
    return model_spec(analysed, CONTRACT, TransformSettings(oov_buckets=OOV, **settings), shape, 1)


def test_future_items_are_counted_for_the_log_q_correction(analysed):
    spec = spec_of(analysed)
    assert item_words(analysed, spec) == [b"a", b"b", b"c", b"d", b"e"]
    # Of the futures alone: c, then b and a.
    assert item_counts(analysed, spec).tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert spec.unseen_ids("item_id") == OOV and spec.unseen_ids("cost") == 0


def test_futures_after_stage_1_are_not_counted_and_rare_items_count_for_their_bucket(tmp_path):
    requests = [
        request(["a"], future=["a", "rare"], now=NOW - 1),
        request(["a"], future=["a"], now=NOW - 1),
        request(["a"], future=["a", "rare"]),
    ]
    analysed = analyse(tmp_path, requests, stage1_end=NOW, min_frequency=3)
    spec = spec_of(analysed)
    assert item_words(analysed, spec) == [b"a"]
    (bucket,) = transformer(analysed)(request(["rare"]))["candidate_item_id"][0]
    counts = item_counts(analysed, spec)
    assert 0 < bucket <= OOV and counts[FIRST_WORD] == 2 and counts[bucket] == 1 and counts.sum() == 3


@pytest.mark.parametrize("hash_buckets", [{}, {"item_id": 50}])
def test_futures_are_counted_by_span_where_the_log_is_in_spans(tmp_path, hash_buckets):
    requests = [{**request(["a"], future=["a", "two words"]), SPAN: [span]} for span in (7, 8, 9, 9, 10)]
    contract = dataclasses.replace(CONTRACT, in_spans=True)
    analysed = analyse(tmp_path, requests, contract=contract, hash_buckets=hash_buckets)
    spec = spec_of(analysed, hash_buckets=hash_buckets)
    made = transformer(analysed, contract)(request(["a", "two words"]))["candidate_item_id"][0]
    for spans, count in ((range(8, 10), 3), (range(7, 8), 1), (range(20), 5)):
        counts = item_counts(analysed, spec, spans)
        assert counts[made].tolist() == [count, count] and counts.sum() == 2 * count


def test_hashed_columns_have_buckets_and_no_vocabulary(tmp_path):
    buckets = {"item_id": 50, "brand": 7}
    analysed = analyse(tmp_path, TRAINING, hash_buckets=buckets)
    spec = spec_of(analysed, hash_buckets=buckets)
    assert (spec.sizes["item_id"], spec.sizes["brand"]) == (51, 8)
    assert spec.sizes["segment"] == FIRST_WORD + 2 and spec.hashed == ("item_id", "brand")
    assert (spec.unseen_ids("item_id"), spec.unseen_ids("segment")) == (0, OOV)
    assert item_words(analysed, spec) == []
    vocabularies = {path.name for path in (tmp_path / "transform_fn" / "assets").iterdir()}
    assert vocabularies == {"category_id", "scene", "behavior", "segment", "tags", "likes", "item_counts"}

    made = transformer(analysed)(
        request([*"abcde", "", *(f"new{n}" for n in range(1000))], moveline=[("a", 1)], future=["b"])
    )
    ids = made["candidate_item_id"][0]
    # The same item is the same everywhere, in training or new; nothing stays nothing; all buckets are in use.
    assert made["moveline_item_id"][0, -1] == ids[0] and made["future_item_id"][0, 0] == ids[1]
    assert ids[5] == 0 and set(ids[6:]) == set(range(1, 51))
    counts = item_counts(analysed, spec)
    assert counts.sum() == 3 and all(counts[ids[place]] >= 1 for place in range(3))


def test_every_id_lies_below_the_size_that_the_models_use(analysed, transform):
    sizes = spec_of(analysed).sizes
    assert sizes["item_id"] == FIRST_WORD + 5
    assert sizes["cost"] == 5
    made = transform(*TRAINING)
    for name, rows in made.items():
        field = re.sub("^(moveline|candidate|future|diff_clicked|diff_unclicked)_", "", name)
        if (meaning := CONTRACT.meaning_of(field)) in sizes:
            assert np.concatenate([np.ravel(row) for row in rows]).max(initial=0) < sizes[meaning], name
