"""The HTTP routes of the admin API, a module for each subject.

A route reads a request and asks the kernel through `admin.kernel.Kernel`; it never touches the engine.
"""
