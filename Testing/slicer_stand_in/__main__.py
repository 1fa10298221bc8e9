"""Open the window: ``python -m slicer_stand_in [IMAGE]``, as ``make desktop`` does."""

import argparse
import os
import sys
from pathlib import Path

import slicer_stand_in

MODULE = Path(__file__).parents[2] / "MedSegUncertainty" / "MedSegUncertainty.py"
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
WINDOW_SIZE = (1400, 900)


def main() -> None:
    """Show a volume and, where the module has one, its panel."""
    parser = argparse.ArgumentParser(prog="slicer_stand_in", description="A stand-in for the window of 3D Slicer.")
    parser.add_argument("image", nargs="?", type=Path, help="volume to show; one is made if not given")
    image = parser.parse_args().image
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in DISPLAYS):
        raise SystemExit("There is no display. QT_QPA_PLATFORM=vnc serves the window to a VNC viewer instead.")
    application = slicer_stand_in.start()
    application._d.testing = False
    import slicer

    from slicer_stand_in.volumes import sampleVolume

    volumeNode = slicer.util.loadVolume(str(image.absolute())) if image else sampleVolume()
    window = slicer.util.mainWindow()
    window.resize(*WINDOW_SIZE)
    window.show()
    openModule()
    application.processEvents()  # views get their sizes
    slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
    raise SystemExit(application.exec())


def openModule() -> None:
    """Load the module and open its panel, unless it is a module without one."""
    import slicer

    from slicer_stand_in.modules import loadScriptedModule

    module = loadScriptedModule(MODULE)
    if not module.hidden:
        slicer.util.selectModule(module)


if __name__ == "__main__":
    main()
