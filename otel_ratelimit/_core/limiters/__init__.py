"""What may hold a call back: one limiter for each kind of limit behind one protocol (``limiter``), and ``combined``, which asks
all.
"""
