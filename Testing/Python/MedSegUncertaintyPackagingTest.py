"""Runs inside Slicer (ctest): what was packaged arrived complete."""

import unittest

import slicer


class MedSegUncertaintyPackagingTest(unittest.TestCase):
    def test_moduleIsLoaded(self):
        self.assertFalse(slicer.modules.medseguncertainty.hidden)

    def test_bundledModelsArrived(self):
        from MedSegUncertaintyLib.packages.store import list_packages

        entries = list_packages()
        self.assertTrue(entries)
        self.assertEqual([str(entry.error) for entry in entries if entry.error], [])
