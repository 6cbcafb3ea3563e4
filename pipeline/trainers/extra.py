"""What lies in `assets.extra/` of every model: TensorFlow Serving and Pusher leave it alone and carry it along."""

EXTRA = "assets.extra"
SPEC, WEIGHTS, SETTINGS, HISTORY = "model_spec.json", "weights.npz", "settings.yaml", "history.json"
COPIED, GENERATOR_FIGURES = "initialization.json", "generator.json"
# A Trainer takes one `base_model`: the generator carries the base's weights along for the CTR model, and the CTR model
# those of both for a later run that starts warm.
BASE_WEIGHTS, GENERATOR_WEIGHTS = "base_weights.npz", "generator_weights.npz"
