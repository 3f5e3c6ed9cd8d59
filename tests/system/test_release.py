"""Which version it says it is: of the package, else of the checkout."""

import importlib.metadata
import re

import edge_runtime.system.release as release


def test_a_checkout_that_is_not_installed_tells_its_own_version(monkeypatch, tmp_path):
    def nowhere(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nowhere)
    assert re.fullmatch(r"\d+\.\d+\.\d+\+checkout", release.read_version.__wrapped__())
    package = tmp_path / "elsewhere" / "edge_runtime"
    package.mkdir(parents=True)
    monkeypatch.setattr(release, "__file__", str(package / "release.py"))
    assert release.read_version.__wrapped__() == "unknown"
    (package.parent / "pyproject.toml").write_text('name = "another"\nversion = "9.9"\n')
    assert release.read_version.__wrapped__() == "unknown"


def test_an_installed_package_tells_its_own(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "7.8.9")
    assert release.read_version.__wrapped__() == "7.8.9"
