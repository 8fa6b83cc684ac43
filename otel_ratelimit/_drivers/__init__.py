"""The I/O side: hooks on the SDK's transport and two thin pumps, one for sync and one for async.

Nothing is decided here about rate limits; see ``_core.call``.
"""
