"""OpenCV without its own log on standard error: what it cannot read, our errors say in one sentence.

PyAV is silent by default. What libjpeg and libpng print themselves ("Corrupt JPEG data: …") has no switch.
"""

from __future__ import annotations

import cv2


def hush_opencv() -> None:
    """Turn OpenCV's log off in this process. Cheap; call it before a decoder that may complain."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
