"""No library that optkit loads reports to its maker: what each one listens to is set before it loads.

- ONNX Runtime 1.29 and later send events of every session, with hashes of the graph and its weights.
- OpenVINO (on import) and NNCF report to Google Analytics through `openvino_telemetry`; where that cannot be
  imported they do without.
- huggingface_hub names the libraries in use; Ray reports its cluster.

A variable that is set already stays as it is: who wants telemetry may have it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
#: A package that does nothing but report.
REPORTER = "openvino_telemetry"


def switch_off() -> None:
    """Set `VARIABLES`, for this process and its children, and keep `REPORTER` from being imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    modules: dict[str, Any] = sys.modules
    modules.setdefault(REPORTER, None)  # an import of it raises ModuleNotFoundError
