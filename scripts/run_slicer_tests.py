"""Runs inside Slicer: all self-tests of the extension; the exit code says whether every one passed and ran."""

import sys
import unittest
from pathlib import Path

import slicer

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the tests of the module file and of ``Testing/Python``."""
    sys.path.insert(0, str(ROOT / "Testing" / "Python"))
    import MedSegUncertaintyPackagingTest

    import MedSegUncertainty

    loader = unittest.defaultTestLoader
    modules = (MedSegUncertainty, MedSegUncertaintyPackagingTest)
    suite = unittest.TestSuite(loader.loadTestsFromModule(module) for module in modules)
    outcome = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    for test, reason in outcome.skipped:
        print(f"skipped, which counts as a failure here: {test}: {reason}")
    return int(not outcome.wasSuccessful() or bool(outcome.skipped) or not outcome.testsRun)


slicer.util.exit(main())
