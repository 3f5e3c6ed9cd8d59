"""A short film becomes a long one, whose pictures repeat."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tools.time_lapse import main, write


def _levels(path):
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        return [
            (float(frame.pts * stream.time_base), float(frame.to_ndarray(format="gray").mean()))
            for frame in film.decode(stream)
        ]


def test_pictures_repeat_one_a_second(tmp_path, capsys):
    greys = [np.full((240, 320, 3), level, np.uint8) for level in (20, 120, 220)]
    assert write(greys, 3, tmp_path / "short.mp4") == 3
    assert main([str(tmp_path / "short.mp4"), "--frames", "8", "--output", str(tmp_path / "long.mp4")]) == 0
    assert '"different": 3' in capsys.readouterr().out
    seen = _levels(tmp_path / "long.mp4")
    assert [t for t, _ in seen] == list(range(8))
    assert [level for _, level in seen] == pytest.approx([20, 120, 220, 20, 120, 220, 20, 120], abs=8)


def test_films_without_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no picture"):
        write([], 5, tmp_path / "none.mp4")
