"""The folders that tools may read and write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.errors import ApiError
from server.mcp.folders import Folders, write_whole
from server.settings import SettingsError


def test_without_a_folder_files_are_off() -> None:
    with pytest.raises(ApiError, match="files are off"):
        Folders(()).to_read("a.wav")


def test_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none is not a folder"):
        Folders([str(tmp_path / "none")])


def links_out(folder: Path, outside: Path) -> dict[str, Callable[[], None]]:
    return {
        "link.wav": lambda: (folder / "link.wav").symlink_to(outside / "there.wav"),
        "dangling.wav": lambda: (folder / "dangling.wav").symlink_to(outside / "none.wav"),
        "sub/there.wav": lambda: (folder / "sub").symlink_to(outside),
        "loop.wav": lambda: (folder / "loop.wav").symlink_to(folder / "loop.wav"),
    }


@pytest.mark.parametrize("name", ["link.wav", "dangling.wav", "sub/there.wav", "loop.wav"])
def test_link_leads_nowhere_outside(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "in", tmp_path / "in-and-out"
    folder.mkdir()
    outside.mkdir()
    (outside / "there.wav").write_bytes(b"precious")
    links_out(folder, outside)[name]()
    folders = Folders([str(folder)])
    with pytest.raises(ApiError):
        folders.to_read(name)
    with pytest.raises(ApiError):
        folders.to_write(name, overwrite=True)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "", "."])
def test_what_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises((ApiError, OSError)):
        Folders([str(tmp_path)]).to_read(name)
    with pytest.raises((ApiError, OSError)):
        Folders([str(tmp_path)]).to_write(name, overwrite=True)


def test_every_allowed_folder_may_be_named_in_full(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        root.mkdir()
    folders = Folders([str(root) for root in roots])
    assert folders.to_write("a.wav", overwrite=False) == roots[0] / "a.wav"
    assert folders.to_write(str(roots[1] / "a.wav"), overwrite=False) == roots[1] / "a.wav"


def test_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"precious")
    with pytest.raises(ApiError, match="exists"):
        write_whole(tmp_path / "a.wav", b"sound", overwrite=False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]
