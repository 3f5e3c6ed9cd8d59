"""A hypothesis strategy for the values that a JSON schema of our OpenAPI document allows.

It supports the keywords that the document uses; another keyword fails the test, so that none is ignored.
"""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

ANNOTATIONS = {"title", "description", "default", "examples", "example"}
ANNOTATIONS |= {"discriminator", "contentMediaType", "format"}
SCALARS = {"type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength"}
SHAPES = {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"}
UNDERSTOOD = ANNOTATIONS | SCALARS | SHAPES | {"$ref", "anyOf", "oneOf", "contentEncoding"}
PHOTO = base64.b64encode(cv2.imencode(".png", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()).decode()


def values(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw values that `schema` allows: examples where it has some, a photo for base64."""
    assert not set(schema) - UNDERSTOOD, f"a keyword that is not understood here: {set(schema) - UNDERSTOOD}"
    if "$ref" in schema:
        place: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        return values(place, document)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of([values(part, document) for part in schema[several]])
    for fixed in ("enum", "examples"):
        if fixed in schema:
            return st.sampled_from(schema[fixed])
    if "const" in schema:
        return st.just(schema["const"])
    return _of_type(schema, document)


def _of_type(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = schema["type"]
    if kind == "object":
        return _object(schema, document)
    if kind == "array":
        return _array(schema, document)
    if kind == "string":
        if schema.get("contentEncoding") == "base64" or schema.get("format") == "binary":
            return st.just(PHOTO)
        return st.text(
            "abc é", min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 20), 20)
        )
    if kind in ("number", "integer"):
        low, high = schema.get("minimum", -1e6), schema.get("maximum", 1e6)
        if kind == "integer":
            return st.integers(int(low), int(high))
        return st.floats(low, high, allow_nan=False, width=32)
    return {"boolean": st.booleans(), "null": st.none()}[kind]


def _object(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    known, required = schema.get("properties", {}), set(schema.get("required", ()))
    parts = {name: values(part, document) for name, part in known.items()}
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )


def _array(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "prefixItems" in schema:
        return st.tuples(*(values(part, document) for part in schema["prefixItems"])).map(list)
    min_size, max_size = schema.get("minItems", 0), min(schema.get("maxItems", 3), 3)
    return st.lists(values(schema["items"], document), min_size=min_size, max_size=max_size)
