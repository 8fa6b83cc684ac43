"""The rules, and nothing else: pure and sans-IO.

Nothing in this package reads a clock, takes a lock, opens a socket, knows a thread or an event loop, or imports anything
but the standard library; time and randomness are arguments. ``tests/test_architecture.py`` holds it to that.
"""
