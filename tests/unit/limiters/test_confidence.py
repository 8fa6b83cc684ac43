"""Whether the tracked buckets, and headers that show room, are believed: counted in surprises, calls and generations."""

from __future__ import annotations

from otel_ratelimit._core.limiters.confidence import Confidence, ConfidenceTuning

TUNING = ConfidenceTuning(surprises=2.0, right_calls=4.0, believed=2.0, believed_calls=10.0)


def test_a_generation_of_refused_requests_is_one_surprise() -> None:
    """Requests that had left when the first of them was refused say nothing more than it."""
    confidence = Confidence(TUNING)
    assert not confidence.shaken
    assert not confidence.surprised(1, 5)
    assert confidence.shaken
    for sequence in (2, 5):
        assert not confidence.surprised(sequence, 9)
    assert not confidence.surprised(6, 6)  # the second; two are put down to chance
    assert confidence.surprised(7, 7)
    assert confidence.surprised(7, 7)  # of the same generation: no more, and no less


def test_requests_that_are_served_as_expected_make_up_for_it() -> None:
    """Four for each surprise; the one that brings it back says so, and those of the generation that surprised do not count."""
    confidence = Confidence(TUNING)
    for sequence in (1, 2, 3):
        confidence.surprised(sequence, sequence)
    assert not confidence.right(3)
    for sequence in range(4, 4 + 11):
        confidence.right(sequence)
    assert confidence.shaken
    confidence.right(15)
    assert not confidence.shaken


def test_only_the_call_that_restores_belief_says_so() -> None:
    """Before it the buckets are doubted, after it they were believed anyway."""
    confidence = Confidence(TUNING)
    for sequence in (1, 2, 3):
        confidence.surprised(sequence, sequence)
    assert [confidence.right(sequence) for sequence in range(4, 10)] == [False, False, False, True, False, False]


def test_headers_end_a_trial_rate_twice() -> None:
    """Then ten calls have to be served for each further time."""
    confidence = Confidence(TUNING)
    assert confidence.believes_headers()
    assert confidence.believes_headers()
    assert not confidence.believes_headers()
    for _ in range(9):
        confidence.served()
    assert not confidence.believes_headers()
    confidence.served()
    confidence.served()  # sums of tenths
    assert confidence.believes_headers()
    assert not confidence.believes_headers()


def test_headers_are_not_believed_while_the_buckets_surprise() -> None:
    """They may be those of another limit than the one that refuses."""
    confidence = Confidence(TUNING)
    for sequence in (1, 2):
        confidence.surprised(sequence, sequence)
    assert confidence.believes_headers()
    confidence.surprised(3, 3)
    assert not confidence.believes_headers()
