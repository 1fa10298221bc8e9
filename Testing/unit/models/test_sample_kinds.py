"""What samples are called, family by family, and without the libraries that would draw them."""

import subprocess
import sys

import pytest
from MedSegUncertaintyLib.errors import PackageError
from MedSegUncertaintyLib.models import registry
from MedSegUncertaintyLib.models.sample_kinds import caution, meaning


@pytest.mark.parametrize(
    ("family", "arguments", "kind"),
    [
        ("ssn", {}, "model samples"),
        ("hpunet", {}, "model samples"),
        ("universeg", {}, "model samples"),
        ("hidiff", {}, "diffusion samples"),
        ("selfreg", {"samples": "augmentation"}, "test-time augmentation"),
        ("selfreg", {"samples": "dropout"}, "Monte-Carlo dropout"),
    ],
)
def test_every_family_says_what_its_samples_are(family: str, arguments: dict[str, str], kind: str) -> None:
    assert registry.sample_kind(family, arguments) == kind
    assert caution(kind).startswith(f"Intervals are the spread of {kind}, not calibrated confidence.")
    assert bool(meaning(kind)) == (family == "selfreg")


def test_a_package_that_does_not_say_it_is_refused() -> None:
    with pytest.raises(PackageError, match='The model family "selfreg" needs the argument "samples"'):
        registry.sample_kind("selfreg", {})
    with pytest.raises(PackageError, match='The model family "other" is unknown'):
        registry.sample_kind("other", {})


def test_it_is_known_without_torch() -> None:
    code = "from MedSegUncertaintyLib.models import registry; import sys; "
    code += "registry.sample_kind('selfreg', {'samples': 'dropout'}); registry.sample_kind('hidiff', {}); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
