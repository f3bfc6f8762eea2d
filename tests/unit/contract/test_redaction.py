"""Secrets are removed by form, by name and by value; normal output of a stack is unchanged."""

from __future__ import annotations

import dataclasses
import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import pipelines as p
import pytest
from builders import healthy
from finetune_compat.contract.records import Message, Stage
from finetune_compat.contract.redaction import HIDDEN, Redactor, is_secret, redact, redact_here, redact_words
from finetune_compat.contract.script import Pipeline
from finetune_compat.machine.places import places
from hypothesis import given
from hypothesis import strategies as st

BASELINES = places().baselines

OURS = "Zq7xW2vKp9"
"""Replaces a secret."""

HEX = "0123456789abcdef0123456789abcdef01234567"

BY_FORM = (
    f"--extra-index-url https://user:{OURS}@example.com/simple",
    f"--index-url=https://{OURS}@example.com/simple",
    f"-i 'https://user:{OURS}@example.com/simple'",
    f"git+https://{OURS}@github.com/org/trl.git@v0.23.1",
    f"trl @ git+https://user:{OURS}@github.com/org/trl.git@main",
    f"-e git+ssh://user:{OURS}@example.com/org/trl.git#egg=trl",
    f"error: Failed to fetch: `https://user:{OURS}@example.com/simple/trl/`",
    f"https://user:{OURS}/with/a/slash@example.com/simple",
    f"https://user:{OURS}@with@two@example.com/simple",
    f"HTTPS://USER:{OURS}@EXAMPLE.COM/",
    f"postgresql+psycopg://user:{OURS}@db/runs",
    f"hf_{OURS}{OURS}",
    f"'hf_{OURS}'",
    f"the token ghp_{OURS}{OURS}abcdefghijklmnop is wrong",
    f"gho_{OURS}{OURS}",
    f"github_pat_{OURS}_{OURS}",
    f"glpat-{OURS}-{OURS}",
    f"sk-proj-{OURS}{OURS}",
    f"xoxb-123456-{OURS}",
    f"Authorization: Bearer {OURS}",
    f"'authorization': 'token {OURS}'",
    f"Bearer {OURS}",
    f"--find-links=https://example.com/?a=b&token={OURS}",
    f'{{"text": "{{\\"hub_token\\": \\"{OURS}\\"}}"}}',
    f"login(token='{OURS}",
    f"eyJhbGciOiJIUzI1NiJ9.{OURS}{OURS}.{OURS}",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{OURS}\n{OURS}\n-----END OPENSSH PRIVATE KEY-----",
)

NAMES = (
    *("hub_token", "hub-token", "token", "HF_TOKEN", "hfToken", "auth_token", "access_token", "push_to_hub_token"),
    *("secret", "client_secret", "aws_secret_access_key", "AWS_ACCESS_KEY_ID", "password", "db-password", "passwd"),
    *("api_key", "api-key", "apikey", "WANDB_API_KEY", "wandbApiKey", "access_key", "credential", "credentials"),
    *("trainer.hub_token", "wandb.api_key", "neptune_api_token"),
)

AS_TEXT = (
    *("--{} {}", "--{}={}", "--{} '{}'", "['train.py', '--{}', '{}', '--lr', '1']", "{}={}", "{} = '{}'"),
    *("{{'{}': '{}'}}", '{{"{}": "{}"}}', '{{"{}":"{}"}}', "https://example.com/?{}={}&b=1", "f({}='{}', lr=1)"),
    *("export {}={}", "ValueError: unexpected argument {}={}, lr=1", "{}: {}"),
)


@pytest.mark.parametrize("text", BY_FORM)
def test_a_secret_is_known_by_its_form(text: str) -> None:
    """This holds anywhere in a text; the text around it is unchanged."""
    shown = redact(text)
    assert OURS not in shown and HIDDEN in shown
    if "example.com" in text:
        assert "example.com" in shown


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", AS_TEXT)
def test_a_secret_is_known_by_the_name_it_stands_at(name: str, form: str) -> None:
    """This covers arguments, code, JSON, YAML, queries and variables. The name stays, so that a reader sees what was
    there.
    """
    text = form.format(name, OURS)
    assert redact(text) == form.format(name, HIDDEN)


def test_a_key_of_weights_and_biases_is_known_by_its_name_alone() -> None:
    """It has the form of a commit hash."""
    for text in (f"wandb.login(key='{HEX}')", f"wandb login {HEX}", f"--wandb_key {HEX}"):
        assert HEX not in redact(text)
    for text in (f"commit {HEX}", f"trl @ git+https://github.com/x/trl@{HEX}", f"sha256={HEX}", f"revision='{HEX}'"):
        assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("eos_token='<|im_end|>'", "--max_new_tokens 10", "pad_token_id=0", "tokenizer_name='gpt2'", "tokenizer=tok"),
        *("tokenizer.pad_token = tokenizer.eos_token", "{'eos_token_id': 151645}", "num_input_tokens_seen=100"),
        *("tiktoken==0.9.0", "tiktoken: not from an index", "SecretStorage==3.3.3", "secretstorage: not from an index"),
        *("token=None", "use_auth_token=True", "unexpected token: expected an identifier", "token: str | None = None"),
        *("git+ssh://git@github.com/x/y.git@main", "git@github.com:x/y.git", "https://github.com/x/y@main", "a@b.c"),
        *("hf_hub_download", "hf_deepspeed_config", "task-specific-adapter-configuration", "--token --lr 1"),
        *("http://localhost:8080/a@b", "huggingface_hub/utils/_auth.py:12", "Author: me", "monkey=banana", "key=value"),
    ],
)
def test_normal_output_of_a_stack_is_no_secret(text: str) -> None:
    """Special tokens, tokenizers, counts, packages, commits, types and sentences are unchanged."""
    assert redact(text) == text


def texts(value: Any) -> Iterator[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def test_no_observed_text_is_taken_for_a_secret() -> None:
    """Messages, errors and code of all releases of the matrix are evidence that is compared with the ledger."""
    found: set[str] = set()
    for file in BASELINES.rglob("observations.jsonl.gz"):
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            found.update(texts(json.loads(line)))
    assert len(found) > 1_000
    assert {text: redact(text) for text in found if redact(text) != text} == {}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("train.py", "--hub_token", OURS, "--lr", "1"), ("train.py", "--hub_token", HIDDEN, "--lr", "1")),
        (("--hub_token", f"with {OURS} blanks"), ("--hub_token", HIDDEN)),
        (("--password", f"-{OURS}"), ("--password", HIDDEN)),
        ((f"--hub_token={OURS} and more",), (f"--hub_token={HIDDEN}",)),
        ((f"+trainer.hub_token={OURS}",), (f"+trainer.hub_token={HIDDEN}",)),
        ((f"wandb.api_key={OURS}",), (f"wandb.api_key={HIDDEN}",)),
        (("--env", f"HF_TOKEN={OURS}"), ("--env", f"HF_TOKEN={HIDDEN}")),
        (("--args", f'{{"hub_token": "{OURS}"}}'), ("--args", f'{{"hub_token": "{HIDDEN}"}}')),
        (("--report", f"https://u:{OURS}@example.com"), ("--report", f"https://{HIDDEN}@example.com")),
        (("--token", "--lr", "1", "--eos_token", "<|end|>"), ("--token", "--lr", "1", "--eos_token", "<|end|>")),
        ((f"hf_{OURS}",), (HIDDEN,)),
    ],
)
def test_secrets_on_a_command_line(words: tuple[str, ...], shown: tuple[str, ...]) -> None:
    """The word after an option is its value, whatever it looks like."""
    assert redact_words(words) == shown


@given(st.text(max_size=200))
def test_what_is_redacted_once_stays_as_it_is(text: str) -> None:
    """Records pass through redaction several times."""
    assert redact(redact(text)) == redact(text)


@given(st.from_regex(r"[A-Za-z0-9_.~-]{1,40}", fullmatch=True), st.sampled_from(NAMES))
def test_any_password_in_a_url_and_behind_an_option_is_taken_out(secret: str, name: str) -> None:
    """This holds for any characters."""
    assert redact(f"x https://user:{secret}@example.com/y") == f"x https://{HIDDEN}@example.com/y"
    if redact_words([f"--{name}", secret]) != (f"--{name}", HIDDEN):
        # The next option, or a word that is no secret.
        assert secret.startswith("-") or secret.lower() in {
            *("none", "null", "true", "false", "str", "int", "bool", "float", "bytes", "optional", "..."),
        }


def test_long_texts_cost_little() -> None:
    """A log may have megabytes, and may be crafted to be slow."""
    begin = time.process_time()  # other processes do not change it
    for piece in ("a", "token ", "key=", "://", "a@", "'", "-----BEGIN PRIVATE KEY-----", "token: ", "--token ", "eyJ"):
        redact(piece * (300_000 // len(piece)) + " token")
    assert time.process_time() - begin < 20


def test_a_known_secret_is_taken_out_where_nothing_names_it() -> None:
    """The example is an error of the script that contains its token."""
    words = ("train.py", "--hub_token", OURS, "--data", "s3://key:Sup3rL0ngValue@bucket/x", "--note", "hello there")
    redactor = Redactor.of(words, {"WANDB_API_KEY": HEX, "HOME": "/home/me", "MY_TOKEN": "1", "X_TOKEN_FILE": "/run/x"})
    assert redactor.known == (HEX, "Sup3rL0ngValue", OURS)
    assert redactor.text(f"{OURS} is not valid; nor {HEX}") == f"{HIDDEN} is not valid; nor {HIDDEN}"
    assert redactor.text("hello there, /home/me") == "hello there, /home/me"


def test_a_record_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts of it are redacted; a record without a secret is the same value."""
    seen = healthy()
    assert Redactor().record(seen) == seen and Redactor().record(seen) is seen
    message = Message(Stage.LOAD, "UserWarning", f"token {OURS} is old", 2)
    made = p.run(dataclasses.replace(seen, warnings=(message,)))
    record: Pipeline = p.pipeline(made, arguments=("--hub_token", OURS), changed=(f"login({OURS}) was not done",))
    shown = Redactor.of(("--hub_token", OURS), {}).record(record)
    assert OURS not in shown.to_json() and shown.arguments == ("--hub_token", HIDDEN)
    assert shown.runs[0].seen.stages == made.seen.stages


def test_a_process_knows_its_own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes secrets that the script set in its environment."""
    monkeypatch.setenv("HF_TOKEN", OURS)
    monkeypatch.setattr("sys.argv", ["train.py", "--api_key", "An0therValue"])
    assert redact_here(f"{OURS}, An0therValue") == f"{HIDDEN}, {HIDDEN}"


def test_names_of_secrets() -> None:
    """Names of options, keys and variables are recognised in every spelling."""
    assert all(map(is_secret, NAMES))
    assert not any(map(is_secret, ("tokenizer", "eos_token", "padTokenId", "max_tokens", "author", "keyboard", "lr")))
