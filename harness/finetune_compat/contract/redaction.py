"""Removes passwords and tokens from text before it is written or printed. Standard library only: both sides use it.

Scripts, resolvers and indexes get the real secrets. Reports, records, logs and messages get redacted text. A secret is
recognised in three ways:

- by form: user and password before the host of a URL, and tokens with a known prefix (`hf_`, `ghp_`)
- by name: the value of an option, a key or a variable whose name contains token, password, secret or API key
- by value: a secret found in the arguments or the environment is removed from every text

In doubt a value is removed. Names of text tokens and token counts (`eos_token`, `max_new_tokens`) are not secrets.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")

HIDDEN = "REDACTED"
"""Replaces a secret. Letters only, so that it has no special meaning in a shell, a URL or Markdown."""

SHORTEST = 8
"""Minimum length of a secret that is removed by value. A shorter one may be an ordinary word."""

# ------------------------------------------------------------------------------------------------------------- by form

_USER = re.compile(
    r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://)((?:[^\s/?#'\"<>]+|[^\s/:@]+:(?!\d+(?:/|$))[^\s@'\"<>]*)@)", re.IGNORECASE
)
"""The user part before the host of a URL, even if the password contains a slash."""

_SSH_USER = re.compile(r"(?:\w+\+)?ssh://[^\s/:@]+@", re.IGNORECASE)
"""The user of an SSH URL, which is not a secret."""

_TOKENS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"hf_(?:[A-Za-z0-9]{16,}|(?=[A-Za-z]*\d)[A-Za-z0-9]{8,})"
    r"|(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{16,}"
    r"|gl(?:pat|dt|ptt|rt|cbt|soat|ft|imt|agent)-[A-Za-z0-9_.-]{10,}"
    r"|sk-[A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{12,}"
    r"|xox[a-z]-[A-Za-z0-9-]{8,}"
    r"|wandb_v1_[A-Za-z0-9_]{16,}"
    r"|(?:pypi-Ag|AIza|nvapi-|npm_|r8_|dapi)[A-Za-z0-9_-]{24,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r")"
)
"""Tokens of Hugging Face, GitHub, GitLab, OpenAI and similar services, AWS, Slack, Weights & Biases, PyPI, Google,
NVIDIA, npm, Replicate and Databricks, and JSON web tokens, by prefix.
"""

_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_HEADER = re.compile(
    r"(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?|\bbearer\s+(?=\S{20}|[A-Za-z._~+/=-]*\d))"
    r"[A-Za-z0-9._~+/=-]{4,}",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"\b(login\s+)[0-9a-f]{40}\b")

# ------------------------------------------------------------------------------------------------------------- by name

_ALWAYS = re.compile(
    "secret(?!storage)|passw(?:or)?d|passphrase|api_?key|access_?key|private_?key|account_?key|credential|signature",
    re.IGNORECASE,
)
_PARTS = frozenset({"auth", "authorization", "pwd", "sig"})
_TOKEN = re.compile("(?<!tik)token(?!i[sz])", re.IGNORECASE)
"""Matches neither a tokenizer nor the package tiktoken."""
_OF_TEXT = frozenset(
    (
        *("additional", "added", "assistant", "audio", "begin", "bos", "boi", "class", "cls", "completion", "count"),
        *("decoder", "embedding", "embeddings", "end", "eoi", "eos", "eot", "extra", "first", "generated", "id", "ids"),
        *("image", "indices", "input", "instruction", "label", "labels", "last", "length", "level", "limit", "logits"),
        *("loss", "mask", "max", "mean", "min", "new", "next", "num", "number", "output", "pad", "padding", "per"),
        *("placeholder", "prompt", "ratio", "response", "seen", "sep", "special", "start", "stop", "text", "total"),
        *("train", "trainable", "type", "types", "unk", "unknown", "user", "video", "vision", "vocab"),
    )
)
"""Name parts of tokens that are text tokens or token counts."""
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")

_NO_SECRET = re.compile(
    r"(?:none|null|true|false|str|int|bool|float|bytes|optional|\*+|\.{3}|<[^<>]*>|\[[A-Z]+\]|\$\{?\w+\}?|REDACTED)?",
    re.IGNORECASE,
)
"""Values that are not secrets: empty, a constant, a type, a special token, the name of a variable."""
_VERSION = re.compile(r"v?\d+(?:\.\w+)+")
_DIGEST = re.compile(r"\\*['\"]?(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9A-Za-z])\\*['\"]?")


@functools.lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether an option, a key or a variable with this name holds a secret."""
    parts = {part.lower() for part in _SPLIT.split(name)}
    if _ALWAYS.search(name.replace("-", "_")) or parts & _PARTS:
        return True
    return _TOKEN.search(name) is not None and not parts & _OF_TEXT


def _gives_away(value: str) -> bool:
    """Whether `value`, which follows the name of a secret, is a secret."""
    return _NO_SECRET.fullmatch(value.strip(" '\"\\")) is None


_NAME = r"\w[\w.-]*"
_BEHIND = r"\\*['\"]?[ \t]*"
"""The quote after a name. In JSON inside JSON a backslash precedes it."""

_OPTION = re.compile(rf"(?<![\w.-])(?P<name>--?{_NAME})(?:[ \t]+(?!-)|['\"],\s*(?=['\"][^-]))")
"""`--name value`, in a command line or a list of its words."""
_ASSIGNED = re.compile(rf"(?<![\w.-])(?P<name>-*{_NAME}){_BEHIND}(?<![=!<>~])=(?!=)[ \t]*")
"""`name=value`, in options, URL queries, variables and code."""
_KEYED = re.compile(rf"(?<![\w.-])(?P<name>{_NAME})(?:{_BEHIND}:[ \t]+|\\*(?P<quote>['\"])[ \t]*:[ \t]*)")
"""`name: value`, in JSON, YAML, headers and Python dictionaries."""

_VALUE = re.compile(
    r"[rbf]?\"(?:[^\"\\\n]|\\.)*\"|[rbf]?'(?:[^'\\\n]|\\.)*'"  # in quotes
    r"|\\+[\"'][^\"'\\\n]*\\+[\"']"  # in quotes after a backslash
    r"|[rbf]?['\"]?[^\s,;&'\"()\[\]{}<>|]+"  # bare, or in quotes that are not closed
)
_QUOTES = re.compile(r"(\\*[rbf]?\\*['\"]|)(.*?)(\\*['\"]|)", re.DOTALL)


def _by_name(text: str, head: re.Pattern[str], *, prose: bool = False) -> str:
    """`text` without the values of secrets. `head` matches the text before a value. A value may contain another head,
    as in `--url=https://host/?token=value`.
    """
    pieces, done, here = [], 0, 0
    while (found := head.search(text, here)) is not None:
        here = found.end()
        value = _value_at(text, here, found["name"])
        if value is not None and not (prose and _may_be_a_sentence(found, value)):
            pieces += [text[done:here], _hidden(value)]
            done = here = here + len(value)
    return "".join((*pieces, text[done:]))


def _value_at(text: str, place: int, name: str) -> str | None:
    """The secret that begins at `place` in `text`, after a name; None if there is none."""
    if not is_secret(name):
        # A key of Weights & Biases looks like a commit. Only its name distinguishes them.
        key = _DIGEST.match(text, place) if name.lower().endswith("key") else None
        return key[0] if key else None
    value = _VALUE.match(text, place)
    return value[0] if value is not None and _gives_away(value[0]) else None


def _may_be_a_sentence(found: re.Match[str], value: str) -> bool:
    """Whether `token: value` may be prose: without quotes, and followed by a word or a version. A name with an
    underscore (`hub_token: value`) is never prose.
    """
    quoted = value[0] in "'\"\\" or found["quote"] is not None
    random = any(sign.isdigit() for sign in value) and not _VERSION.fullmatch(value)
    return not quoted and not random and "_" not in found["name"]


def _hidden(value: str) -> str:
    """The replacement for `value`, in the same quotes, so that the surrounding format stays valid."""
    quotes = _QUOTES.fullmatch(value)
    return f"{quotes[1]}{HIDDEN}{quotes[3]}" if quotes else HIDDEN


_HINT = re.compile(rf"{_ALWAYS.pattern}|{_TOKEN.pattern}|auth|pwd|sig|bearer|login|key|private", re.IGNORECASE)
"""Matches every text that may contain a secret by name. Few of the thousands of texts in a record match."""


_REMEMBERED = 1_000
"""Maximum length of a text whose result is cached: short texts of records repeat, longer ones are logs."""


def redact(text: str) -> str:
    """`text` without secrets that are recognised by form or by name."""
    return _remembered(text) if len(text) <= _REMEMBERED else _redacted(text)


def _redacted(text: str) -> str:
    if "@" in text:
        text = _USER.sub(lambda found: found[0] if _SSH_USER.fullmatch(found[0]) else f"{found[1]}{HIDDEN}@", text)
    text = _TOKENS.sub(HIDDEN, text)
    if _HINT.search(text) is None:
        return text
    text = _PRIVATE_KEY.sub(rf"\1{HIDDEN}\2", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _LOGIN.sub(rf"\1{HIDDEN}", text)
    return _by_name(_by_name(_by_name(text, _OPTION), _ASSIGNED), _KEYED, prose=True)


_remembered = functools.lru_cache(maxsize=4096)(_redacted)


# --------------------------------------------------------------------------------------------------------- whole words


def redact_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command line without secrets. The value after an option is one whole word."""
    return tuple(_hide(word, name) for word, name in _named(words))


def _named(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each word, with the name of the option whose value it is; an empty name if it is not a value."""
    name = ""
    for word in words:
        is_option = re.match(r"--[A-Za-z]|-[A-Za-z]$" if is_secret(name) else r"--?[A-Za-z]", word) is not None
        yield word, "" if is_option else name
        name = word if is_option and "=" not in word else ""


_WORD = re.compile(rf"(?P<name>[-+]*{_NAME})=(?P<value>.*)", re.DOTALL)
"""`--name=value`, and `name.of.a.setting=value`."""


def _hide(word: str, name: str) -> str:
    if name and _is_value(name, word):
        return HIDDEN
    whole = _WORD.fullmatch(word)
    if whole is not None and _is_value(whole["name"], whole["value"]):
        return f"{whole['name']}={HIDDEN}"
    return redact(word)


def _is_value(name: str, word: str) -> bool:
    """Whether the whole `word`, the value of `name`, is a secret."""
    return _gives_away(word) if is_secret(name) else _value_at(word, 0, name) == word


# ------------------------------------------------------------------------------------------------------------ by value


@dataclass(frozen=True, slots=True)
class Redactor:
    """Removes secrets by form, by name and by value. By value, because the error of a failed login may contain the
    token, for example.
    """

    known: tuple[str, ...] = ()
    """Known secrets, longest first, because one may be part of another."""

    @classmethod
    def of(cls, words: Sequence[str], environ: Mapping[str, str]) -> Redactor:
        """A redactor that knows the secrets in the words of a command line and in the environment."""
        found = {value for value in (*_values_in(words), *_values_of(environ)) if len(value) >= SHORTEST}
        return cls(tuple(sorted(found, key=lambda value: (-len(value), value))))

    def text(self, text: str) -> str:
        """`text` without secrets."""
        return redact(self._without_known(text))

    def words(self, words: Iterable[str]) -> tuple[str, ...]:
        """The words of a command line without secrets."""
        return redact_words([self._without_known(word) for word in words])

    def _without_known(self, text: str) -> str:
        for value in self.known:
            text = text.replace(value, HIDDEN)
        return text

    def record(self, value: T) -> T:
        """`value` without secrets in its texts. Dataclasses, mappings, lists and tuples are searched. A tuple of texts
        is treated as the words of a command line.
        """
        found: T = self._within(value)
        return found

    def _within(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, tuple):
            if value and all(type(item) is str for item in value):
                return self.words(value)
            return tuple(map(self._within, value))
        if isinstance(value, list):
            return [*map(self._within, value)]
        if isinstance(value, Mapping):
            return {name: self._within(item) for name, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            there = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
            changed = {name: new for name, old in there.items() if (new := self._within(old)) != old}
            return dataclasses.replace(value, **changed) if changed else value
        return value


def redact_here(text: str) -> str:
    """`text` without secrets, including those in the arguments and the environment of this process. Truncate text only
    after this call, because a truncated secret is not recognised.
    """
    return Redactor.of(sys.argv, os.environ).text(text)


def _values_in(words: Sequence[str]) -> Iterator[str]:
    for word, name in _named(words):
        whole = _WORD.fullmatch(word)
        if name and _is_value(name, word):
            yield word
        elif whole is not None and _is_value(whole["name"], whole["value"]):
            yield whole["value"]
        else:
            yield from _of_urls(word)


def _values_of(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if is_secret(name) and _gives_away(value) and not value.isdigit() and "/" not in value[:1]:
            yield value
        yield from _of_urls(value)


def _of_urls(text: str) -> Iterable[str]:
    """Passwords and tokens before the hosts of the URLs in `text`. A user name before a password is not a secret."""
    users = (found[2][:-1] for found in _USER.finditer(text) if not _SSH_USER.fullmatch(found[0]))
    return [user.partition(":")[2] or user.partition(":")[0] for user in users]
