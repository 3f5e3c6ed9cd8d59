"""One protocol over execution backends, and the bundle that they run."""

import os

# onnxruntime 1.31 keeps a device id and a database of events in the user's cache folder, to be sent to its
# maker. A device that watches a shop tells nobody anything; whoever wants it to sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
