"""Values of a stranger's JSON, each of the kind that was expected, or an error that says where."""

from __future__ import annotations

from typing import Any

from fmfbench.errors import AnnotationError

__all__ = ["as_list", "as_number", "as_object", "as_whole", "unique_keys"]


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`: a key that stands twice is refused."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise AnnotationError(f"expected each key once, got {key!r} twice")
    return dict(pairs)


def as_object(
    value: object, where: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """An object; with `required`, of these keys and the `optional` ones alone."""
    if not isinstance(value, dict):
        raise AnnotationError(f"{where}: expected an object, got {_kind(value)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise AnnotationError(f"{where}: expected {', '.join(required)}, got no {', '.join(missing)}")
    unknown = [key for key in value if required and key not in (*required, *optional)]
    if unknown:
        raise AnnotationError(
            f"{where}: expected only {', '.join((*required, *optional))}, got {unknown[0]!r}"
        )
    return value


def as_list(value: object, where: str, length: int | None = None) -> list[Any]:
    """A list, of `length` where that is given."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        expected = "a list" if length is None else f"a list of {length}"
        got = f"{len(value)} values" if isinstance(value, list) else _kind(value)
        raise AnnotationError(f"{where}: expected {expected}, got {got}")
    return value


def as_whole(value: object, where: str, smallest: int = 0) -> int:
    """A whole number from `smallest` up; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise AnnotationError(f"{where}: expected a whole number from {smallest} up, got {value!r}")
    return value


def as_number(value: object, where: str) -> float:
    """A finite number, whole or not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AnnotationError(f"{where}: expected a number, got {_kind(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise AnnotationError(f"{where}: expected a finite number, got a larger one") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
