"""The model class that a config names."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import PreTrainedModel


def model_class(names: Any) -> type[PreTrainedModel] | None:
    """The first of `names` that is a model class of this Transformers; None if there is none. A config may name any
    attribute of the package, such as `Trainer`.
    """
    found = (getattr(transformers, name, None) for name in names or () if isinstance(name, str))
    return next((cls for cls in found if isinstance(cls, type) and issubclass(cls, PreTrainedModel)), None)
