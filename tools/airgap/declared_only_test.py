"""Tests of declared_only/sitecustomize.py."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.machinery import BuiltinImporter, FrozenImporter
from pathlib import Path

import pytest

from tools.airgap.declared_only import sitecustomize


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of installed packages: `Dotted.One`, a module and a package, and `Other`, two packages."""
    for folder in ("one_package", "other", "other_too"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "part.py").touch()
    (tmp_path / "one_module.py").touch()
    for name in ("Dotted.One", "Other"):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    return tmp_path


@pytest.fixture
def _one_is_declared(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    finder = sitecustomize.DeclaredPackages(["dotted_one==1 one_module one_package"], installed_in=[str(installed)])
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter, FrozenImporter, finder])
    yield
    for name in [name for name in sys.modules if name.startswith(("one_", "other"))]:
        del sys.modules[name]


@pytest.mark.usefixtures("_one_is_declared")
def test_what_is_declared_is_found() -> None:
    for name in ("one_module", "one_package.part"):
        importlib.import_module(name)
    assert metadata.version("dotted-one") == "1"


@pytest.mark.usefixtures("_one_is_declared")
def test_an_undeclared_package_looks_as_if_it_were_not_installed() -> None:
    for name in ("other", "other_too.part"):
        with pytest.raises(ModuleNotFoundError, match="No module named 'other"):
            importlib.import_module(name)
    assert importlib.util.find_spec("other") is None
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("other")
    assert [found.metadata["Name"] for found in metadata.distributions()] == ["Dotted.One"]


@pytest.mark.usefixtures("_one_is_declared")
def test_what_is_not_installed_needs_no_dep(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "other_of_ours.py").touch()
    monkeypatch.syspath_prepend(own)
    importlib.import_module("other_of_ours")


@pytest.mark.usefixtures("_one_is_declared")
def test_a_package_may_put_its_own_folder_on_the_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime.quantization does."""
    (installed / "one_package" / "other_part.py").touch()
    monkeypatch.syspath_prepend(installed / "one_package")
    importlib.import_module("other_part")


@pytest.mark.skipif("TEST_SRCDIR" not in os.environ, reason="Bazel alone knows what a test declares")
def test_a_test_sees_no_package_that_it_does_not_declare() -> None:
    """In either lane."""
    assert importlib.util.find_spec("pytest") is not None
    assert importlib.util.find_spec("yaml") is None, "PyYAML is locked and installed, but no dep of this test"


def test_python_and_its_children_start_with_it(tmp_path: Path) -> None:
    """In a runfiles tree whose target declares no package."""
    folder = tmp_path / "workspace" / "tools" / "airgap" / "declared_only"
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_bytes(Path(sitecustomize.__file__).read_bytes())
    environment = {**os.environ, "PYTHONUSERBASE": str(tmp_path)}
    where = "import site; print(site.getusersitepackages())"
    users = subprocess.check_output([sys.executable, "-c", where], env=environment, text=True).strip()
    Path(users).mkdir(parents=True)
    Path(users, "other.py").touch()
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import other'], check=True)"
    for path, outcome in (([users], 0), ([str(folder), users], 1)):
        environment["PYTHONPATH"] = os.pathsep.join(path)
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == outcome, done.stderr
    assert "No module named 'other'" in done.stderr
