"""What was watched is said so that a part is neither nothing nor all."""

import pytest

from edge_runtime.memory.coverage import Coverage, Gap
from edge_runtime.query.answers import Covered


@pytest.mark.parametrize(
    ("coverage", "words"),
    [
        (Coverage(0, 100), "watched 0.0 to 100.0 s, 0 gaps"),
        (Coverage(0, 100, ((10, 17),)), "watched 93 % of 0.0 to 100.0 s, 1 gap"),
        (Coverage(0, 100, ((10, 17), (20, 23))), "watched 90 % of 0.0 to 100.0 s, 2 gaps"),
        (Coverage(0, 100, ((10, 10.5),)), "watched over 99 % of 0.0 to 100.0 s, 1 gap"),
        (Coverage(0, 100, ((0, 99.5),)), "watched under 1 % of 0.0 to 100.0 s, 1 gap"),
        (Coverage(0, 100, ((0, 100),)), "watched nothing of 0.0 to 100.0 s, 1 gap"),
        (
            Coverage(0, 100, merged=(Gap(0, 100, None, 0, 40),)),
            "it is not known whether anybody watched: at most 40 % of 0.0 to 100.0 s, 1 gap",
        ),
        (
            Coverage(0, 100, merged=(Gap(0, 100, None, 0, 100),)),
            "it is not known whether anybody watched: at most 100 % of 0.0 to 100.0 s, 1 gap",
        ),
        (
            Coverage(0, 100, merged=(Gap(0, 100, None, 0.5, 100),)),
            "watched under 1 % to 100 % of 0.0 to 100.0 s, 1 gap",
        ),
        (
            Coverage(0, 100, ((60, 70),), merged=(Gap(0, 50, None, 10, 15),)),
            "watched 50 % to 55 % of 0.0 to 100.0 s, over 2 gaps",
        ),
        (Coverage(), ""),
    ],
)
def test_the_watched_share_of_a_time_in_words(coverage, words):
    assert Covered.from_coverage(coverage).format() == words
