"""docs/configuration.md says what the program reads."""

from tools.docs.config_reference import PAGE, page


def test_the_page_is_current():
    assert PAGE.read_text() == page(), "run python -m tools.docs.config_reference"


def test_every_section_and_key_is_told_once():
    told = page()
    for key in ("cameras.NAME", "http.tls", "state.encryption", "defaults.privacy.thumbnails"):
        assert told.count(f"## `{key}`\n") == 1
    assert "| `source` | text or whole number | needed |" in told
    assert "`state.encryption`" in told and "\n## `cameras.NAME.privacy`\n\nAs [`defaults.privacy`]" in told
