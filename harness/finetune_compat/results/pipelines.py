"""Read the record of a watched script."""

from __future__ import annotations

import json

from pydantic import TypeAdapter, ValidationError

from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.script import PIPELINE_SCHEMA, Pipeline

_PIPELINE = TypeAdapter(Pipeline)


def read_pipeline(text: str, where: str) -> Pipeline:
    """The record in a line of JSON.

    Raises:
        RecordsError: it is no record of this schema. The message contains `where`.
    """
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("schema") != PIPELINE_SCHEMA:
            schema = raw.get("schema") if isinstance(raw, dict) else None
            raise _unreadable(where, f"schema {schema!r}, this harness reads {PIPELINE_SCHEMA}")
        return _PIPELINE.validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(where, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise _unreadable(where, f"not JSON: {error}") from None


def _unreadable(where: str, problem: str) -> RecordsError:
    return RecordsError(
        f"not a record of a watched process: {problem}",
        where=where,
        meaning="Another program wrote or changed this file.",
        todo="Run the script again.",
    )
