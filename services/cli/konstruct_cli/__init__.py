"""The ``konstruct`` command and the embedded local stack behind it."""
