"""A small stand-in for the desktop application of 3D Slicer. ``README.md`` says what it is and what it is not."""

import os
import sys
import types
from pathlib import Path
from typing import Any

PYTHON_DIR_VARIABLE = "SLICER_PYTHON_DIR"
"""Environment variable with the ``slicer`` package folder of an installed Slicer, whose files are then used."""

os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "0x02")  # before PySide is imported: enum values are integers

_application: list[Any] = []


def start() -> Any:
    """The application, as ``slicer.app``; started by the first call in a process.

    Makes the main window with its views, but does not show it. Set ``QT_QPA_PLATFORM=offscreen`` before where there is
    no display.
    """
    install()
    if not _application:
        from MedSegUncertaintyLib.scene.rendering import offscreenEnvironment

        os.environ.update(offscreenEnvironment())
        from slicer_stand_in.application import qSlicerApplication

        application = qSlicerApplication()
        _application.append(application)
        application._start()
    _application[0]._activate()
    return _application[0]


def install() -> None:
    """Make the modules ``qt`` and ``ctk`` and what the slicer-core wheel leaves out of ``slicer``, without starting."""
    if "qt" in sys.modules:
        return
    from slicer_stand_in import qt_module

    qt_module.build()
    import slicer

    slicer.__path__.append(os.environ.get(PYTHON_DIR_VARIABLE) or str(Path(__file__).with_name("slicer_python")))
    from slicer_stand_in.widgets import ctk_choices, ctk_containers, ctk_numbers

    ctk = sys.modules["ctk"] = types.ModuleType("ctk", "Stand-ins for CTK's widgets")
    _export(ctk, "ctk", ctk_choices, ctk_containers, ctk_numbers)
    from slicer_stand_in.widgets import mrml_base, node_boxes

    _export(slicer, "q", mrml_base, node_boxes)
    from slicer_stand_in import files, modules
    from slicer_stand_in.views import layout, plot_view, render_view, slice_view, table_view, three_d_view, view_widget
    from slicer_stand_in.widgets import markups, segments, sequences

    _export(slicer, "q", markups, segments, sequences, files, modules)
    _export(slicer, "q", layout, plot_view, render_view, slice_view, table_view, three_d_view, view_widget)
    from slicer_stand_in.widgets import editor_effects, segment_editor

    _export(slicer, "q", editor_effects, segment_editor)


def _export(target: Any, prefix: str, *modules: Any) -> None:
    for module in modules:
        for name, value in vars(module).items():
            if name.startswith(prefix) and isinstance(value, type):
                setattr(target, name, value)
