"""Where things are kept from one run to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress_ops.files.cache import cache_folder


@pytest.mark.parametrize("told", [None, "", "not/absolute"])
def test_it_is_in_the_home_unless_something_else_is_told(
    told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths are to be ignored, says the specification."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if told is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", told)
    assert cache_folder() == tmp_path / ".cache" / "onnxpress"


def test_it_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there" / "onnxpress"
    assert not (tmp_path / "there").exists()  # who writes makes it


def test_who_has_no_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
