"""The rules of the OSV format (https://ossf.github.io/osv-schema/) for the fields that advisories here have."""

_TEXT = {"type": "string", "minLength": 1}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
_EVENT = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {"introduced": _TEXT, "fixed": _TEXT, "last_affected": _TEXT, "limit": _TEXT},
    "additionalProperties": False,
}
_EVENTS = {
    "type": "array",
    "minItems": 1,
    "items": _EVENT,
    "contains": {"required": ["introduced"]},
    # "fixed" and "last_affected" exclude each other in one range.
    "not": {"allOf": [{"contains": {"required": ["fixed"]}}, {"contains": {"required": ["last_affected"]}}]},
}
_REFERENCE_TYPES = [
    "ADVISORY",
    "ARTICLE",
    "DETECTION",
    "DISCUSSION",
    "REPORT",
    "FIX",
    "INTRODUCED",
    "PACKAGE",
    "EVIDENCE",
    "WEB",
]

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "modified"],
    "additionalProperties": False,
    "properties": {
        "schema_version": {"type": "string", "pattern": r"^1\.\d+\.\d+$"},
        "id": {"type": "string", "pattern": "^x_[A-Za-z0-9._-]+$"},
        "modified": _TIME,
        "published": _TIME,
        "related": {"type": "array", "items": _TEXT},
        "summary": {"type": "string", "pattern": r"^[^\n]+$"},
        "details": _TEXT,
        "affected": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["package", "ranges"],
                "additionalProperties": False,
                "properties": {
                    "package": {
                        "type": "object",
                        "required": ["ecosystem", "name"],
                        "additionalProperties": False,
                        "properties": {
                            "ecosystem": {"const": "PyPI"},
                            "name": {"type": "string", "pattern": "^[a-z0-9-]+$"},
                            "purl": {"type": "string", "pattern": "^pkg:pypi/[a-z0-9-]+$"},
                        },
                    },
                    "ranges": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["type", "events"],
                            "additionalProperties": False,
                            "properties": {"type": {"enum": ["ECOSYSTEM"]}, "events": _EVENTS},
                        },
                    },
                    "ecosystem_specific": {"type": "object"},
                },
            },
        },
        "references": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "url"],
                "additionalProperties": False,
                "properties": {"type": {"enum": _REFERENCE_TYPES}, "url": {"type": "string", "pattern": "^https://"}},
            },
        },
        "database_specific": {"type": "object"},
    },
}
