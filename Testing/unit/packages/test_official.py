"""The authors' weights: only with consent to their license, only the file that is known, and loadable."""

import hashlib

import pytest
import torch
from MedSegUncertaintyLib.errors import CanceledError, PackageError
from MedSegUncertaintyLib.models.universeg import UniverSeg
from MedSegUncertaintyLib.packages import official
from MedSegUncertaintyLib.packages.weights import load_sampler


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of the released network's shape that passes for the authors'."""
    torch.manual_seed(0)
    file = tmp_path / "weights.pt"
    torch.save(UniverSeg([64] * 4).state_dict(), file)
    monkeypatch.setattr(official, "BLOB_ID", official.git_blob_id(file.read_bytes()))
    return file


def test_blob_id_is_gits():
    assert official.git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_question_shows_the_license(weights, tmp_path):
    asked = []

    def decline(question):
        asked.append(question)
        return False

    with pytest.raises(CanceledError, match="nothing was installed"):
        official.install_official(decline, weights, tmp_path / "models")
    assert "solely for research purposes" in asked[0]
    assert official.LICENSE_NAME in asked[0]
    assert not (tmp_path / "models").exists()


def test_nothing_is_downloaded_without_consent(tmp_path, monkeypatch):
    monkeypatch.setattr(official, "download_file", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(CanceledError):
        official.install_official(False, into=tmp_path / "models")


def test_known_file_becomes_a_package(weights, tmp_path):
    package = official.install_official(True, weights, tmp_path / "models")
    assert (package.name, package.square_pixels) == ("universeg-official", 128)
    assert "research use only" in package.weights_license
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in package.metadata["data_source"]
    loaded, stored = load_sampler(package).state_dict(), torch.load(weights, weights_only=True)
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)
    with pytest.raises(PackageError, match="already exists"):
        official.install_official(True, weights, tmp_path / "models")


def test_downloaded_file_is_checked(weights, tmp_path, monkeypatch):
    def download(url, target, progress):
        assert url == official.URL
        target.write_bytes(weights.read_bytes())

    monkeypatch.setattr(official, "download_file", download)
    assert official.install_official(True, into=tmp_path / "models").name == "universeg-official"


def test_other_file_is_refused(weights, tmp_path):
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(PackageError, match="is not the UniverSeg authors' file"):
        official.install_official(True, weights, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())
