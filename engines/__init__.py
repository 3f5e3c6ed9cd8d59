"""Execution backends behind one contract, and the bundle that they run."""

import os
import sys

# A device that watches a shop sends nothing to anybody. onnxruntime 1.31 stores a device id and a database of
# events in the user's cache folder, to be sent to its maker; set the variable to 0 to allow that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# OpenVINO 2026.4 brings a package that reports each import to Google Analytics, unasked, with an id that it
# stores in the home folder. Without a home folder (systemd's DynamicUser) it raises, and OpenVINO cannot be
# imported. None makes its import an ImportError, for which OpenVINO and nncf have silent stand-ins.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
