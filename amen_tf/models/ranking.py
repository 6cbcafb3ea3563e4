"""What every ranking model shares: training and evaluation steps over requests with N candidates."""

import tensorflow as tf
import tf_keras as keras

from amen_tf import losses
from amen_tf.distribution import sum_over_replicas
from amen_tf.features import CANDIDATE_MASK, LABEL
from amen_tf.precision import descend

# Nothing here needs AutoGraph, whose rewriting of our and Keras' source took most of the time to the first step.
keras_step = tf.autograph.experimental.do_not_convert

# Keras' default of 200 thresholds misreads AUC by over a point at low click rates.
AUC_THRESHOLDS = 10_000


class RankingModel(keras.Model):
    """Base of models that map a request's features to logits `[B, N]`.

    Subclasses give `call(features, training) -> [B, N]`, and may extend `compute_losses` with terms of their own,
    listed in `loss_terms`; every term appears in TensorBoard under its name. All means are over real candidates,
    not over requests.
    """

    loss_terms: tuple[str, ...] = ("loss",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.auc = keras.metrics.AUC(num_thresholds=AUC_THRESHOLDS, name="auc")
        self.terms = {name: keras.metrics.Mean(name=name) for name in self.loss_terms}

    def compute_losses(self, features, training: bool) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The loss terms by name, `loss` being the one that is minimised, and the logits `[B, N]`."""
        logits = self(features, training=training)
        loss = losses.cross_entropy(features[LABEL], logits, features[CANDIDATE_MASK])
        return {"loss": loss}, logits

    def _update(self, terms, logits, features):
        for name, value in terms.items():
            # Each replica has its part of the mean over the whole batch.
            self.terms[name].update_state(sum_over_replicas(value))
        self.auc.update_state(features[LABEL], tf.sigmoid(logits), sample_weight=features[CANDIDATE_MASK])
        return {**{name: metric.result() for name, metric in self.terms.items()}, "auc": self.auc.result()}

    @keras_step
    def train_step(self, data):
        with tf.GradientTape() as tape:
            terms, logits = self.compute_losses(data, training=True)
        descend(self, tape, terms["loss"])
        return self._update(terms, logits, data)

    @keras_step
    def test_step(self, data):
        terms, logits = self.compute_losses(data, training=False)
        return self._update(terms, logits, data)

    @keras_step
    def predict_step(self, data):
        return tf.sigmoid(self(data, training=False))

    @property
    def metrics(self):
        return [*self.terms.values(), self.auc]
