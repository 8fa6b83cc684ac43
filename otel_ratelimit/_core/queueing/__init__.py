"""The calls that wait: one call's ticket, the order of tickets, and the admission, where the queue meets the limits."""
