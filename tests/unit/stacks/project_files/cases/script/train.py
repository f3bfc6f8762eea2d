#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "trl==0.22.2",
#     "peft>=0.17",
#     "rich",
# ]
#
# [tool.uv.sources]
# peft = { git = "https://github.com/huggingface/peft", tag = "v0.17.1" }
# ///
"""Reading this script must not run it."""

raise SystemExit("it ran")
