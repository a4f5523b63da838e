"""Python's method resolution order: C3 (Barrett et al. 1996), in time that is linear in the length of the merged
lists."""

from __future__ import annotations

Class = tuple[str, str]  #: a module, and the qualified name of a class in it


def merged(sequences: list[list[Class]], most: int) -> list[Class]:
    """Return the first `most` classes of a C3 merge. Without a consistent order, return them depth first."""
    result: list[Class] = []
    rest = [iter(sequence) for sequence in sequences]
    heads = [next(each, None) for each in rest]
    later: dict[Class, int] = {}  # the number of lists with the class after their head
    for sequence in sequences:
        for item in sequence[1:]:
            later[item] = later.get(item, 0) + 1
    while len(result) < most:
        head = next((head for head in heads if head is not None and not later.get(head)), None)
        if head is None:
            left = [[first, *each] for first, each in zip(heads, rest, strict=True) if first is not None]
            return [*result, *dict.fromkeys(item for sequence in left for item in sequence)][:most]
        result.append(head)
        for place, first in enumerate(heads):
            if first == head:
                heads[place] = following = next(rest[place], None)
                if following is not None:
                    later[following] -= 1
    return result
