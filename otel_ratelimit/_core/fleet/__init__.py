"""The same over many processes: what they tell each other (``messages``), a limiter that holds a lease, and the member that
exchanges.
"""
