"""Models that AMEN is compared with: each a published model on the features, trainer and evaluator of the base."""
