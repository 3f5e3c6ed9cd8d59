"""One protocol over execution backends, and the bundle that they run."""

import os
import sys

# A device that watches a shop tells nobody anything. onnxruntime 1.31 keeps a device id and a database of
# events in the user's cache folder, to be sent to its maker; whoever wants it to sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# OpenVINO 2026.4 brings a package that tells Google Analytics of each import, unasked, with an id that it
# keeps in the home folder. Without one (systemd's DynamicUser) it raises, and no OpenVINO can be imported.
# None makes its import an ImportError, for which OpenVINO and nncf have stand-ins that say nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
