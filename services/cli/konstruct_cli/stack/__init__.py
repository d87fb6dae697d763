"""The embedded local stack: real servers from wheels, run as child processes.

``konstruct up``, ``konstruct demo`` and the test suite start the same servers through this package.
"""
