"""A method that a subclass has for itself, and a place for our wrapper in its chain of wrappers.

OpenInference wraps ``OpenAI.request``, which ``OpenAI`` inherits, around the function that it finds, and puts that function into
``OpenAI`` when it is uninstrumented. Either leads past a wrapper that we have put on ``SyncAPIClient.request`` since. Ours
then goes where that function is called: below the neighbour's wrapper, so that its span stays around the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import wrapt


class Place(NamedTuple):
    """Where a wrapper of ours is: an attribute of a class, or what another wrapper wraps."""

    holder: Any
    name: str
    wrapper: Any
    original: Any

    def stands(self) -> bool:
        """Whether it is still there."""
        if isinstance(self.holder, type):
            return self.holder.__dict__.get(self.name) is self.wrapper
        return getattr(self.holder, self.name) is self.wrapper

    def is_met(self) -> bool:
        """Whether whoever calls the attribute still meets the wrapper, if only below others."""
        return any(link is self.wrapper for link in links(self.holder.__dict__.get(self.name)))

    def restore(self) -> None:
        """Put back what was there, unless somebody else has put something since."""
        if self.stands():
            setattr(self.holder, self.name, self.original)


def family(owner: type) -> Iterator[type]:
    """The class and every subclass."""
    yield owner
    heirs: list[type] = owner.__subclasses__()
    for heir in heirs:
        yield from family(heir)


def unbound(link: Any) -> Any:
    """The wrapper itself, of one that was read off a class (which is what OpenInference puts back)."""
    parent = getattr(link, "_self_parent", None)
    return link if parent is None else parent


def links(outermost: Any) -> Iterator[Any]:
    """A chain of wrappers from the outside in, and what they wrap."""
    link = outermost
    while link is not None:
        yield (link := unbound(link))
        link = getattr(link, "__wrapped__", None)


def join(heir: type, name: str, base: Any, is_ours: Callable[[Any], bool], wrap: Callable[[Any], Any]) -> Place | None:
    """Wrap ``base`` where the method that ``heir`` has for itself leads to it and meets no wrapper of ours before.

    None where there is nothing to do, or nothing known: a method of its own making most likely calls the inherited one.
    """
    chain = list(links(heir.__dict__.get(name)))
    if not chain or chain[-1] is not base or any(map(is_ours, chain)):
        return None
    if len(chain) > 1 and isinstance(chain[-2], wrapt.FunctionWrapper):
        place = Place(chain[-2], "__wrapped__", wrap(base), base)
    else:  # a closure keeps what it calls to itself: above it, then
        place = Place(heir, name, wrap(chain[0]), chain[0])
    setattr(place.holder, place.name, place.wrapper)
    return place
