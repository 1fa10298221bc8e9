"""Finding packages, and bringing new ones in without trusting them."""

import hashlib
import os
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from urllib.request import HTTPRedirectHandler, Request

import pytest
from MedSegUncertaintyLib.errors import CanceledError, PackageError
from MedSegUncertaintyLib.packages import store


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Keeps the packages of the computer that runs the tests out of them."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(store.ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture
def into(tmp_path):
    return tmp_path / "installed"


@pytest.fixture
def archive(package, tmp_path):
    return Path(shutil.make_archive(str(tmp_path / "tiny-mr"), "zip", package.folder.parent, package.folder.name))


def listed(monkeypatch, *folders):
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, os.pathsep.join(map(str, folders)))
    return {entry.name: entry for entry in store.list_packages()}


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_order_of_folders(monkeypatch, tmp_path):
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert store.search_folders()[:3] == [tmp_path / "a", tmp_path / "b", store.user_folder()]


@pytest.mark.parametrize(
    ("platform", "parts"),
    [("win32", ("data",)), ("linux", ("data",)), ("darwin", ("home", "Library", "Application Support"))],
)
def test_folder_of_the_user(monkeypatch, tmp_path, platform, parts):
    monkeypatch.setattr(sys, "platform", platform)
    assert store.user_folder() == tmp_path.joinpath(*parts, "MedSegUncertainty", "Models")


def test_damaged_package_does_not_hide_the_others(monkeypatch, package):
    damaged = shutil.copytree(package.folder, package.folder.parent / "damaged-mr")
    (damaged / "configs" / "metadata.json").write_text("{", encoding="utf-8")
    entries = listed(monkeypatch, package.folder.parent)
    assert entries["tiny-mr"].package is not None
    assert entries["damaged-mr"].package is None
    assert "is not valid JSON" in str(entries["damaged-mr"].error)
    with pytest.raises(PackageError, match="is not valid JSON"):
        store.find_package("damaged-mr")


def test_foreign_folders_are_skipped(monkeypatch, package):
    foreign = package.folder.parent / "bundle-of-someone-else" / "configs"
    foreign.mkdir(parents=True)
    (foreign / "metadata.json").write_text('{"version": "0.1.0"}', encoding="utf-8")
    (package.folder.parent / "notes").mkdir()
    (package.folder.parent / "file.txt").touch()
    entries = listed(monkeypatch, package.folder.parent)
    assert "tiny-mr" in entries
    assert not {"bundle-of-someone-else", "notes", "file.txt"} & entries.keys()


def test_first_folder_wins(monkeypatch, package, tmp_path):
    shutil.copytree(package.folder, tmp_path / "other" / "tiny-mr")
    entries = listed(monkeypatch, tmp_path / "other", package.folder.parent)
    assert entries["tiny-mr"].folder == tmp_path / "other" / "tiny-mr"


def test_find_by_name_and_by_path(monkeypatch, package):
    assert store.find_package(package.folder).name == "tiny-mr"
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(package.folder.parent))
    assert store.find_package("tiny-mr").folder == package.folder


def test_unknown_name_lists_what_there_is(monkeypatch, package):
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(package.folder.parent))
    with pytest.raises(PackageError, match=r'^No model package is named "tiny-ct"; available: .*tiny-mr.*\.$'):
        store.find_package("tiny-ct")


def test_import_from_folder_and_zip(package, archive, tmp_path):
    assert store.import_package(package.folder).folder == store.user_folder() / "tiny-mr"
    assert store.import_package(archive, tmp_path / "other").name == "tiny-mr"
    assert leftovers(tmp_path / "other") == ["tiny-mr"]


def test_zip_without_a_folder_of_its_own(package, tmp_path, into):
    flat = shutil.make_archive(str(tmp_path / "flat-mr"), "zip", package.folder)
    assert store.import_package(flat, into).name == "flat-mr"


def test_package_is_not_overwritten(package, into):
    store.import_package(package.folder, into)
    with pytest.raises(PackageError, match="already exists; remove that model package before installing it anew"):
        store.import_package(package.folder, into)


def test_import_checks_the_weights(package, into):
    content = bytearray(package.weights_path.read_bytes())
    content[-1] ^= 1
    package.weights_path.write_bytes(content)
    with pytest.raises(PackageError, match="The SHA-256 of"):
        store.import_package(package.folder, into)
    assert leftovers(into) == []


@pytest.mark.parametrize(
    "name", ["../escaped.txt", "/escaped.txt", "a/../../escaped.txt", "..\\escaped.txt", "C:/e.txt"]
)
def test_zip_that_leaves_its_folder_is_refused(archive, into, name):
    # Set afterwards: the constructor would turn backslashes into slashes on Windows.
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(entry, "escaped")
    with pytest.raises(PackageError, match=r"holds an unsafe entry, .*; nothing was unpacked"):
        store.import_package(archive, into)
    assert leftovers(into) == []
    assert not (into.parent / "escaped.txt").exists()


def test_zip_with_a_symbolic_link_is_refused(archive, into):
    entry = zipfile.ZipInfo("tiny-mr/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(entry, "/etc")
    with pytest.raises(PackageError, match="holds an unsafe entry"):
        store.import_package(archive, into)
    assert leftovers(into) == []


def test_zip_that_would_fill_the_disk_is_refused(archive, into, monkeypatch):
    monkeypatch.setattr(store, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(PackageError, match="would unpack to more than"):
        store.import_package(archive, into)


@pytest.mark.parametrize("content", [None, b"no zip file"])
def test_source_that_is_no_zip_file(tmp_path, into, content):
    source = tmp_path / "package.zip"
    if content:
        source.write_bytes(content)
    with pytest.raises(PackageError, match="cannot be copied or unpacked"):
        store.import_package(source, into)


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_download(archive, into):
    questions, steps = [], []

    def consent(question):
        questions.append(question)
        return True

    package = store.download_package(
        archive.as_uri(), checksum(archive), consent, into, lambda done, total: steps.append((done, total))
    )
    assert package.name == "tiny-mr"
    assert leftovers(into) == ["tiny-mr"]
    assert archive.as_uri() in questions[0]
    assert steps[-1] == (archive.stat().st_size, archive.stat().st_size)


@pytest.mark.parametrize("consent", [False, lambda question: False], ids=["value", "function"])
def test_nothing_is_downloaded_without_consent(archive, into, consent, monkeypatch):
    monkeypatch.setattr(store.urllib.request, "build_opener", lambda *handlers: pytest.fail("connected"))
    with pytest.raises(CanceledError, match=r"^The download was declined; nothing was downloaded\.$"):
        store.download_package(archive.as_uri(), checksum(archive), consent, into)
    assert leftovers(into) == []


def test_download_with_a_wrong_checksum_is_not_unpacked(archive, into, monkeypatch):
    monkeypatch.setattr(store.zipfile, "ZipFile", lambda *arguments: pytest.fail("unpacked"))
    with pytest.raises(PackageError, match=f"instead of {'0' * 64}; nothing was installed"):
        store.download_package(archive.as_uri(), "0" * 64, True, into)
    assert leftovers(into) == []


def test_canceled_download_leaves_nothing(archive, into):
    def cancel(done, total):
        raise CanceledError

    with pytest.raises(CanceledError):
        store.download_package(archive.as_uri(), checksum(archive), True, into, cancel)
    assert leftovers(into) == []


@pytest.mark.parametrize("url", ["http://example.org/a.zip", "ftp://example.org/a.zip", "a.zip"])
def test_only_encrypted_addresses(url, into):
    with pytest.raises(PackageError, match="model packages are downloaded over https only"):
        store.download_package(url, "0" * 64, True, into)


def test_redirect_to_an_unencrypted_address_is_refused():
    request = Request("https://example.org/a.zip")
    (redirects,) = (one for one in store._https_opener().handlers if isinstance(one, HTTPRedirectHandler))
    with pytest.raises(PackageError, match="downloaded over https only"):
        redirects.redirect_request(request, None, 302, "Found", {}, "http://example.org/a.zip")


def test_unreachable_address(tmp_path, into):
    with pytest.raises(PackageError, match="could not be downloaded"):
        store.download_package((tmp_path / "absent.zip").as_uri(), "0" * 64, True, into)
    assert leftovers(into) == []
