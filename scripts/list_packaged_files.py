"""Write the names of all packaged files into the CMake lists of the Slicer module.

Slicer fails on a listed file that is missing and silently leaves out a file that is not listed, so run this after
adding or removing one: ``make cmake-lists``.
"""

import re
from pathlib import Path

MODULE = Path(__file__).resolve().parents[1] / "MedSegUncertainty"
CMAKE_LISTS = MODULE / "CMakeLists.txt"


def packaged_files() -> dict[str, list[str]]:
    """Names that the CMake lists must hold, relative to the module's folder, by name of the list."""
    files = [path for folder in ("MedSegUncertaintyLib", "Resources") for path in (MODULE / folder).rglob("*")]
    kept = [path for path in [MODULE / "MedSegUncertainty.py", *files] if path.is_file() and _is_packaged(path)]
    names = sorted((path.relative_to(MODULE).as_posix() for path in kept), key=lambda name: (name.count("/") > 0, name))
    return {
        "MODULE_PYTHON_SCRIPTS": [name for name in names if name.endswith(".py")],
        "MODULE_PYTHON_RESOURCES": [name for name in names if not name.endswith(".py")],
    }


def with_lists(text: str, lists: dict[str, list[str]]) -> str:
    """The text of a CMakeLists.txt with these lists in place of its own."""
    for variable, names in lists.items():
        lines = "".join(f"  {name}\n" for name in names)
        text = re.sub(rf"(?<=^set\({variable}\n)[^)]*?(?=  \)$)", lines, text, flags=re.MULTILINE)
    return text


def _is_packaged(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(MODULE).parts)
    return not hidden and "__pycache__" not in path.parts


if __name__ == "__main__":
    CMAKE_LISTS.write_text(with_lists(CMAKE_LISTS.read_text(encoding="utf-8"), packaged_files()), encoding="utf-8")
