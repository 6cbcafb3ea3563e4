"""Commands that measure: Table 2, controls, throughput, an outside check. Nothing else imports them."""

import amen_tf  # noqa: F401  before tensorflow: importing it selects Keras 2
