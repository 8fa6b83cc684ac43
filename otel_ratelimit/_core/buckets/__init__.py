"""What is believed of each limit: the estimate of one bucket, which bucket a word is about, what readings imply, what calls
cost.
"""
