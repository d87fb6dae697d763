"""What every part of Konstruct shares: models, settings, the database and the pure prompt code.

Boundary: this package imports neither Celery nor a model provider. ``models``, ``contract``,
``manifest``, ``persona`` and ``prompt`` are pure; ``db``, ``rls``, ``tables`` and ``migrate`` need the
extra ``shared[db]``.
"""
