"""The documentation: size, links, and that every page has its place in the site."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer
import yaml

from edge_runtime.interfaces.cli.main import app
from tools.docs.tutorial import BLOCK, find_commands

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.glob("*.md"))
LAB = sorted((DOCS / "lab").glob("*.md"))
MAX_README_LINES = 150
MAX_README_NUMBERS = 30
MAX_WORDS = 25_000
"""Of all pages outside docs/lab together."""


def _nav_pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in entries for page in _nav_pages(entry)]


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    if page.suffix != ".md" or not page.is_file():
        return set()
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_site_has_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(_nav_pages(site["nav"])) == [page.name for page in PAGES]
    assert site["theme"]["font"] is False  # nothing from the network


def test_the_lab_is_built_and_out_of_the_navigation():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert site["not_in_nav"].split() == ["/lab/"]
    index = (DOCS / "lab" / "README.md").read_text()
    assert [page.name for page in LAB if page.name != "README.md" and f"({page.name})" not in index] == []


def test_links_lead_to_files_and_headings_that_are_there():
    broken = []
    for page in [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES, *LAB]:
        for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_pages_that_files_of_the_project_name_are_there():
    named = set()
    for folder in ("configs", "edge_runtime", "engines", "export", "tools"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".yaml", ".yml", ".service"} or file.name.startswith("Dockerfile"):
                named |= set(re.findall(r"docs/[\w/-]+\.md", file.read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_readme_fits_on_a_screen_and_a_half():
    text = README.read_text()
    assert len(text.splitlines()) <= MAX_README_LINES
    assert len(re.findall(r"\d+(?:[.,]\d+)*", text)) <= MAX_README_NUMBERS


def test_the_readme_has_the_command_that_runs_the_tests():
    block = re.search(r"^<!-- tests -->\n```sh\n(.+)\n```$", README.read_text(), re.M)
    assert block and "-m pytest" in block[1]  # .ci/run runs it


def test_the_pages_for_users_stay_short():
    words = {page.name: len(page.read_text().split()) for page in PAGES}
    assert sum(words.values()) <= MAX_WORDS, words


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_every_code_block_is_closed(page):
    assert len(re.findall(r"^```", page.read_text(), re.M)) % 2 == 0


def _lvm_edge_commands(page: Path) -> list[str]:
    """Return the commands of a page's code blocks that begin with lvm-edge, without what the shell adds."""
    blocks = re.findall(r"^```(?:sh|console|text)\n(.*?)^```", page.read_text(), re.M | re.S)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = []
    for line in lines:
        line = re.split(r"\s+(?:#|>|\||&)", line)[0]
        line = re.sub(r"^(?:\w+=\S+ )*(?:sudo )?(?:\S*/bin/)?(?=lvm-edge )", "", line)
        if line.startswith("lvm-edge ") and not line.endswith("\\"):
            found.append(line)
    return found


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_the_commands_of_a_page_are_those_of_the_program(page):
    """Commands and options exist; values are not looked at."""
    for line in _lvm_edge_commands(page):
        command, arguments = typer.main.get_command(app), shlex.split(line)[1:]
        context = click.Context(command)
        while isinstance(command, click.Group):
            parser = command.make_parser(context)
            parser.allow_interspersed_args = False
            _, arguments, _ = parser.parse_args(arguments)
            assert arguments and arguments[0] in command.commands, f"{page.name}: {line}"
            command = command.commands[arguments[0]]
            context, arguments = click.Context(command, parent=context), arguments[1:]
        try:
            command.make_parser(context).parse_args(arguments)
        except click.UsageError as error:
            pytest.fail(f"{page.name}: {line}: {error}")


def test_the_modules_that_pages_run_are_there():
    missing = set()
    for page in [README, ROOT / "CONTRIBUTING.md", *PAGES]:
        for name in re.findall(r"python -m ((?:tools|export|edge_runtime)[\w.]*)", page.read_text()):
            path = ROOT.joinpath(*name.rstrip(".").split("."))
            if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
                missing.add(f"{page.name}: {name}")
    assert not missing


def test_every_command_of_the_tutorial_has_its_output():
    blocks = BLOCK.findall((DOCS / "tutorial.md").read_text())
    assert len(blocks) >= 4
    for _, body in blocks:
        assert find_commands(body) and len(body.splitlines()) > len(find_commands(body))
