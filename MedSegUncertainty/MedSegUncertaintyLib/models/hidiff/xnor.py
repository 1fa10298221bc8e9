"""``xnor.c`` as a library: compiled into the user's folder when the user asks for it, and found there.

Nothing needs it. Without it, or on a machine that is not fast with it, PyTorch computes the same bits.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from MedSegUncertaintyLib.errors import MedSegError
from MedSegUncertaintyLib.folders import user_folder

SOURCE = Path(__file__).with_name("xnor.c")
# Contraction would round a product and a sum together.
FLAGS = ("-O3", "-ffp-contract=off", "-shared", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")

Kernel = Any
"""A compiled ``xnor.c``, or None for PyTorch."""


def kernel_path() -> Path:
    """Where the library is kept that was made of this source, by these flags, for this kind of machine."""
    made_of = [SOURCE.read_bytes(), *(part.encode() for part in (*FLAGS, sys.platform, platform.machine()))]
    digest = hashlib.sha256(b"\0".join(made_of)).hexdigest()
    return user_folder("Kernels") / f"xnor-{digest[:16]}.so"


def build_kernel() -> Path:
    """Compile the library to where it is found.

    Raises:
        MedSegError: There is no C compiler that can.
    """
    path = kernel_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Staged inside the target, so that the last step is a rename and never half a library.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as staging:
        compiled = compile_kernel(Path(staging))
        if compiled is None:
            raise MedSegError(
                f"No C compiler that works was found ({', '.join(COMPILERS)}); results are the same without the kernel."
            )
        compiled.replace(path)
    return path


def compile_kernel(folder: Path) -> Path | None:
    """Compile the library into a folder; None if no compiler makes one that can be loaded."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    path = folder / "xnor.so"
    for flags in ((*FLAGS, "-fopenmp"), FLAGS):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([compiler, *flags, "-o", str(path), str(SOURCE)], capture_output=True, check=True)
            load_kernel(path)
            return path
    return None


def load_kernel(path: Path) -> Kernel:
    """The library in a file.

    Raises:
        OSError: It cannot be loaded.
    """
    library = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.block.argtypes = [pointer] * 10 + [number] * 5 + [ctypes.c_int]
    library.block.restype = None
    library.level.restype = ctypes.c_int
    return library


@functools.cache
def found_kernel() -> Kernel:
    """The library that the user has built, if this machine is fast with it."""
    try:
        kernel = load_kernel(kernel_path())
    except (OSError, RuntimeError):  # nobody built it, or on another machine with the same home; nobody has a home
        return None
    return kernel if kernel.level() else None
