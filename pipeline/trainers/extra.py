"""What lies in `assets.extra/` of every model: TensorFlow Serving leaves it alone."""

EXTRA = "assets.extra"
SPEC, WEIGHTS, SETTINGS, HISTORY = "model_spec.json", "weights.npz", "settings.yaml", "history.json"
COPIED, GENERATOR_FIGURES = "initialization.json", "generator.json"
# In `COPIED`: the earlier model and what became of its words; there for a warm start alone.
STARTED_FROM = "warm_start"
# A Trainer takes one `base_model`: the generator carries the base's weights along for the CTR model, and the CTR model
# those of both for a later run that starts warm. No server reads them: Pusher leaves them out.
BASE_WEIGHTS, GENERATOR_WEIGHTS = "base_weights.npz", "generator_weights.npz"
