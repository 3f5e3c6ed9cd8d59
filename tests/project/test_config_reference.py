"""docs/configuration.md says what the program reads."""

from tools.docs.config_reference import PAGE, render_page


def test_the_page_is_current():
    assert PAGE.read_text() == render_page(), "run python -m tools.docs.config_reference"


def test_every_section_stands_once():
    text = render_page()
    for key in ("cameras.NAME", "http.tls", "state.encryption", "defaults.privacy.thumbnails"):
        assert text.count(f"## `{key}`\n") == 1
    assert "| `source` | text or whole number | needed |" in text
    assert "`state.encryption`" in text and "\n## `cameras.NAME.privacy`\n\nAs [`defaults.privacy`]" in text
