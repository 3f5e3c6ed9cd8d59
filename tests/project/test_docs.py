"""The documentation: every page is in the site, every link between pages leads somewhere."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(one)]


def test_the_site_has_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(_pages(site["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))
    assert site["theme"]["font"] is False  # nothing from the network


def test_links_lead_to_files_and_headings_that_are_there():
    broken = []
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
            file, _, heading = target.partition("#")
            there = page if not file else page.parent / file
            titles = (
                re.findall(r"^#+ (.+)$", there.read_text(), re.M)
                if there.suffix == ".md" and there.is_file()
                else []
            )
            slugs = {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in titles}
            if not there.exists() or (heading and heading not in slugs):
                broken.append(f"{page.name}: {target}")
    assert not broken
