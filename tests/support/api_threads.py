"""The process of the admin API as a thread of the tests: it is there at once, and a test can change what it does."""

import socket
import threading
from contextlib import suppress

from torghut_core.admin import api_process
from torghut_core.admin.serve import serve

start_real_process = api_process.start_process


class ApiThread:
    """What `subprocess.Popen` is of a process, of a thread."""

    pid = None

    def __init__(self, control):
        self._control = control.dup()
        self._thread = threading.Thread(target=self._serve, name="torghut-api", daemon=True)
        self._thread.start()

    def _serve(self):
        with self._control as control, suppress(OSError):
            serve(control, lambda: None)

    def wait(self):
        self._thread.join()
        return 0

    def kill(self):
        """End it where it waits for what it is to serve: no thread can be killed."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
