"""What is done once, before the checks of catalogs are forked: import, compile and load what they all need.

Imported by the process that they are forked from, and by no other: see `catalog_check`.
"""

import os
import signal
import time
from contextlib import suppress

import pydantic

from torghut_core.admin.catalog_check import NICE, SECONDS, installed_plugins
from torghut_core.calendars import session_at
from torghut_core.errors import PluginError
from torghut_core.generation.builder import MAY_OPEN


def prepare() -> None:
    """Make one of each plugin that needs no parameters, and a calendar."""
    for plugin in installed_plugins().plugins():
        with suppress(PluginError, pydantic.ValidationError):
            params = plugin.parameters({})
            if plugin.kind not in MAY_OPEN:
                plugin.create(params)
    session_at("XNYS", time.time_ns())


os.nice(NICE)
signal.alarm(int(SECONDS))  # a plugin that never returns ends this process
prepare()
signal.alarm(0)
