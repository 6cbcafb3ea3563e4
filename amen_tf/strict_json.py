"""JSON that every reader can read."""

import json
import math
from typing import Any


def to_json(content: Any) -> str:
    """Indented JSON text of `content`; a number that is none (NaN, infinity) becomes null.

    Python writes NaN as it stands, which is not JSON: `jq`, browsers and most languages refuse the whole file.
    """
    return json.dumps(_finite(content), indent=1, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content
