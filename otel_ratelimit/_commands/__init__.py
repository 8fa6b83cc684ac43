"""The commands of ``otel-ratelimit``, a package for each. Their ``__init__`` has ``add_arguments`` and ``run`` and imports
little; what a command needs more than the standard library for, it imports when it runs.
"""
