"""The processes: `torghut run`, the services without a broker, and back-fills. What starts, in which order it ends.

Holds no logic of its own beyond a process's life: everything here is put together from the packages below.
"""
