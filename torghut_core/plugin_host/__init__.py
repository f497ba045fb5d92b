"""Plugins: found, checked, loaded, imported afresh when their code changes, and interrupted when they do not return.

What plugins raise while they are loaded ends here. Nothing here decides anything, nor knows what a catalog lists.
"""

from torghut_core.plugin_host.host import PluginHost
from torghut_core.plugin_host.registered import Registered

__all__ = ["PluginHost", "Registered"]
