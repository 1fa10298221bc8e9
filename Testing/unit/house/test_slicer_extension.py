"""What Slicer and its Extensions Index read as text: CMake lists, metadata literals, the catalog entry, the icon."""

import importlib.util
import json
import re
import shutil
import struct
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOP_LEVEL = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
REPOSITORY = "https://github.com/medseg-uncertainty/SlicerMedSegUncertainty"
RAW_FILES = "https://raw.githubusercontent.com/medseg-uncertainty/SlicerMedSegUncertainty/main/"


def literal(name):
    """Value of a metadata variable, found the way the index finds it: one line, double quotes."""
    (value,) = re.findall(rf'^set\({name} "([^"\n]*)"\)$', TOP_LEVEL, flags=re.MULTILINE)
    return value


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("list_packaged_files", ROOT / "scripts" / "list_packaged_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("variable", ["MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"])
def test_cmake_lists_name_every_file(script, variable):
    text = script.CMAKE_LISTS.read_text(encoding="utf-8")
    (body,) = re.findall(rf"^set\({variable}\n([^)]*)\)$", text, flags=re.MULTILINE)
    listed, present = set(body.split()), set(script.packaged_files()[variable])
    assert present, "found no files at all"
    assert listed == present, "run `make cmake-lists`"


def test_lists_are_rewritten_in_place(script):
    text = "# before\nset(A\n  old.py\n  )\nset(B\n  )\n# after\n"
    rewritten = script.with_lists(text, {"A": ["x.py", "y.py"], "B": ["Resources/z"]})
    assert rewritten == "# before\nset(A\n  x.py\n  y.py\n  )\nset(B\n  Resources/z\n  )\n# after\n"


def test_metadata_literals():
    assert literal("EXTENSION_HOMEPAGE") == REPOSITORY
    assert literal("EXTENSION_DEPENDS") == "PyTorch"
    assert literal("EXTENSION_CONTRIBUTORS")
    assert literal("EXTENSION_DESCRIPTION").endswith(".")
    assert "EXTENSION_CATEGORY" not in TOP_LEVEL
    assert re.search(r"^project\(MedSegUncertainty\)$", TOP_LEVEL, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_pictures_are_in_the_repository(name):
    for url in literal(name).split():
        assert url.startswith(RAW_FILES)
        picture = ROOT / url.removeprefix(RAW_FILES)
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("folder", ["Resources", "MedSegUncertainty/Resources/Icons"])
def test_icon_is_128_pixels_wide_and_high(folder):
    header = (ROOT / folder / "MedSegUncertainty.png").read_bytes()[:24]
    assert struct.unpack(">II", header[16:24]) == (128, 128)


# Enough of Slicer's build system to see that ours calls it rightly.
SLICER_CONFIG = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/empty.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${Slicer_USE_FILE}")
set(Slicer_EXTENSION_CPACK "${Slicer_USE_FILE}")
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file IN LISTS MODULE_SCRIPTS MODULE_RESOURCES)
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "listed but missing: ${file}")
    endif()
  endforeach()
  message(STATUS "module ${MODULE_NAME}")
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT" "" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT}")
    message(FATAL_ERROR "test without a script: ${TEST_SCRIPT}")
  endif()
  message(STATUS "test ${TEST_SCRIPT}")
endfunction()
"""


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="needs cmake and a compiler")
def test_cmake_configures(tmp_path):
    (tmp_path / "SlicerConfig.cmake").write_text(SLICER_CONFIG, encoding="utf-8")
    (tmp_path / "empty.cmake").touch()
    command = ["cmake", "-S", ROOT, "-B", tmp_path / "build", f"-DSlicer_DIR={tmp_path}", "-DBUILD_TESTING=ON"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for line in ("module MedSegUncertainty", "test MedSegUncertainty.py", "test MedSegUncertaintyPackagingTest.py"):
        assert f"-- {line}\n" in run.stdout


def test_catalog_entry():
    content = (ROOT / "MedSegUncertainty.json").read_bytes()
    assert b"\r" not in content
    entry = json.loads(content)
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["category"] == "Segmentation"
    assert entry["scm_url"] == REPOSITORY + ".git"
    assert entry["build_dependencies"] == literal("EXTENSION_DEPENDS").split()


def test_slicer_gets_the_same_requirements():
    """Slicer brings numpy and SimpleITK itself, and torch comes with the PyTorch extension."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "MedSegUncertainty/Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in project["dependencies"] if not line.startswith(("numpy", "SimpleITK", "torch"))}
    assert {line for line in lines if not line.startswith("#")} == wanted
