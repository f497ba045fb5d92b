"""Changing what trades without stopping: from what the catalog says now to the generation that trades next.

    texts -> draft (valid entries) -> settled catalog (with what stays as it is) -> generation -> warm -> swap

Everything before the swap is `reloader.Reloader.plan`, which may run in another thread while the loop trades; the swap is
`Reloader.apply`, between two batches. A wrong entry stays as it was and is listed in `problems`; a file that is wrong as
a whole changes nothing. Never touches an order or a venue.
"""
