"""The file of weights: what is refused, with which message, and that a large file needs little memory."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from adapters import raw, values
from finetune_compat.contract.errors import AdapterError, ExitCode
from finetune_compat.inspect import weights
from finetune_compat.inspect.values import Values
from finetune_compat.inspect.weights import PIECE, read_weights
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save_file

NAME = "adapter_model.safetensors"


def refused(path: Path) -> str:
    """Return the message without the path in front of it."""
    with pytest.raises(AdapterError) as caught:
        read_weights(path)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_tensor_is_what_was_saved(tmp_path: Path) -> None:
    """It has name, dtype, shape, extremes, norm and digest; the file has its size and metadata."""
    array = np.array([[3.0, 0.0], [-4.0, 0.0]], dtype=np.float32)
    save_file({"a": array}, tmp_path / NAME, {"format": "pt"})
    seen = read_weights(tmp_path / NAME)
    (tensor,) = seen.tensors
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.elements) == ("a", "F32", (2, 2), 4)
    assert tensor.values == Values(zero=2, nan=0, infinite=0, minimum=-4.0, maximum=3.0, norm=5.0)
    assert tensor.sha256 == hashlib.sha256(array.tobytes()).hexdigest()
    assert (seen.size, seen.metadata) == ((tmp_path / NAME).stat().st_size, {"format": "pt"})


def test_layers_come_in_their_own_order(tmp_path: Path) -> None:
    """Layer 2 comes before layer 10."""
    names = ["layers.10.a", "layers.2.b", "layers.2.a", "head"]
    save_file({name: values(1) for name in names}, tmp_path / NAME)
    read = [tensor.name for tensor in read_weights(tmp_path / NAME).tensors]
    assert read == ["head", "layers.2.a", "layers.2.b", "layers.10.a"]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_tensor_of_several_pieces_is_read_whole(tmp_path: Path, extra: int) -> None:
    """The last element counts, whether a piece ends with it, before it or after it."""
    array = np.ones(2 * PIECE + extra, dtype=np.float16)
    array[-1] = np.inf
    save_file({"a": array, "b": values(2)}, tmp_path / NAME)
    first, second = read_weights(tmp_path / NAME).tensors
    assert first.values is not None and (first.values.infinite, first.values.maximum) == (1, 1.0)
    assert first.sha256 == hashlib.sha256(array.tobytes()).hexdigest()
    assert second.values is not None and (second.values.minimum, second.values.maximum) == (1.125, 1.25)


def test_only_a_whole_tensor_of_zeros_is_all_zero(tmp_path: Path) -> None:
    """A tensor with another number and an empty tensor are not."""
    arrays = {"none": np.zeros((0, 3), np.float32), "one": values(3) * [0, 0, 1], "zero": -np.zeros(3)}
    save_file(arrays, tmp_path / NAME)
    assert [tensor.all_zero for tensor in read_weights(tmp_path / NAME).tensors] == [False, False, True]


def test_an_unsupported_dtype_has_no_values(tmp_path: Path) -> None:
    """Its bytes still have a digest."""
    (tensor,) = read_weights(raw(tmp_path / NAME, [("a", "F8_E8M0", [3], b"\1\2\3")])).tensors
    assert (tensor.dtype, tensor.values, tensor.all_zero) == ("F8_E8M0", None, False)
    assert tensor.sha256 == hashlib.sha256(b"\1\2\3").hexdigest()


def with_header(length: int) -> tuple[bytes, list[str]]:
    """Write a file whose header has `length` bytes, padded with spaces as the format allows; return its
    tensors' names.
    """
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    names, data = (["a"], b"\0\0\x80\x3f") if len(header) <= length else ([], b"")
    return struct.pack("<Q", length) + (header if names else "{}").ljust(length).encode() + data, names


@given(st.integers(2, 8_000))
@example(640)
@example(896)
@example(1152)
@example(1408)
@example(0x01_02_80)  # 66,176 begins with the same two bytes as 640
def test_a_header_may_have_any_length(length: int) -> None:
    """Also those whose number is written as a pickle of protocol 2, 3, 4 or 5 begins: \\x80 and the protocol."""
    content, names = with_header(length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, NAME)
        path.write_bytes(content)
        assert [tensor.name for tensor in read_weights(path).tensors] == names


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_what_the_library_writes_with_a_header_of_such_a_length_is_read(tmp_path: Path, length: int) -> None:
    """The tensor's name has the needed length; the library pads to multiples of eight."""
    save_file({"a": values(3)}, tmp_path / NAME)
    (shortest,) = struct.unpack("<Q", (tmp_path / NAME).read_bytes()[:8])
    name = "a" * (length - shortest + 1)
    save_file({name: values(3)}, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes().startswith(struct.pack("<Q", length))
    (tensor,) = read_weights(tmp_path / NAME).tensors
    assert (tensor.name, tensor.shape) == (name, (3,))


def test_a_large_file_costs_no_memory(tmp_path: Path) -> None:
    """The file has 64 MB, sparse on disk; reading it needs less than a thirtieth of that."""
    size = 64_000_000
    entry = {"a": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    with (tmp_path / NAME).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    tracemalloc.start()
    (tensor,) = read_weights(tmp_path / NAME).tensors
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tensor.all_zero and peak < size / 30


# ------------------------------------------------------------------------------------------------------------ refusals


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """The file has no bytes."""
    (tmp_path / NAME).touch()
    assert refused(tmp_path / NAME) == (
        "the file is empty\n"
        "The process that saved it ended before it wrote anything, or the disk was full.\n"
        "Save the adapter again, or take an earlier checkpoint."
    )


def test_a_file_that_was_cut_off_is_refused_with_both_sizes(tmp_path: Path) -> None:
    """It is cut in its data, after its header, inside its header, and after the header's length."""
    path = tmp_path / NAME
    save_file({"a": values(16)}, path)
    whole = path.read_bytes()
    size, without_data = len(whole), len(whole) - 16 * 4
    cuts = [(size - 1, size), (without_data, size), (without_data - 1, without_data), (9, without_data)]
    for kept, announced in [*cuts, (8, without_data)]:
        path.write_bytes(whole[:kept])
        assert refused(path) == (
            f"is cut off: its header announces {announced} bytes, and it has {kept}\n"
            "Saving, copying or downloading it did not finish.\n"
            "Copy it again; if it was cut off where it was saved, take an earlier checkpoint."
        )


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
@pytest.mark.parametrize("kept", [8, 9, 640, -1])
def test_a_file_that_was_cut_off_is_no_pickle(tmp_path: Path, length: int, kept: int) -> None:
    """The length of its header starts like a pickle."""
    content, _ = with_header(length)
    (tmp_path / NAME).write_bytes(content[:kept])
    assert refused(tmp_path / NAME).startswith("is cut off: its header announces ")


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_damaged_header_is_no_pickle(tmp_path: Path, length: int) -> None:
    """No pickle has a zero at its first opcode."""
    (tmp_path / NAME).write_bytes(struct.pack("<Q", length) + b"{" * length)
    assert refused(tmp_path / NAME).startswith("is not a safetensors file: ")


class Trap:
    """Creates a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the call that a pickle of it makes."""
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [0, 1, 640, 100_000])
def test_a_real_pickle_is_refused_and_never_loaded(tmp_path: Path, protocol: int, size: int) -> None:
    """This covers all protocols of torch.save and pickle.dump; the call of the pickle is not made."""
    sprung = tmp_path / "sprung"
    (tmp_path / NAME).write_bytes(pickle.dumps([b"\0" * size, Trap(sprung)], protocol))
    assert refused(tmp_path / NAME).startswith("is a pickle under the name of a safetensors file\n")
    assert not sprung.exists()


def test_a_zip_of_torch_save_is_refused(tmp_path: Path) -> None:
    """torch.save writes this format today: an uncompressed archive that contains a pickle."""
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
    assert refused(tmp_path / NAME).startswith("is a pickle under the name of a safetensors file\n")


@pytest.mark.parametrize("begins", [b"PK\x03\x04", b"\x80\x02}q\x00", b"\x80\x05\x95"])
def test_a_pickle_under_another_name_is_refused_unread(tmp_path: Path, begins: bytes) -> None:
    """It starts as torch.save and pickle.dump start; the message has the reason and the line that converts it."""
    (tmp_path / NAME).write_bytes(begins + b"\0" * 100)
    assert refused(tmp_path / NAME) == (
        "is a pickle under the name of a safetensors file\n"
        "Pickles are not read: reading a pickle can run any code that its author put into it.\n"
        "If you trust its source, convert it in its directory with the stack that made it:\n"
        '  python -c "import torch, safetensors.torch as st; '
        "t = torch.load('adapter_model.safetensors', map_location='cpu', weights_only=True); "
        "st.save_file({k: v.contiguous() for k, v in t.items()}, 'adapter_model.safetensors', {'format': 'pt'})\""
    )


def test_a_pointer_of_git_lfs_is_refused(tmp_path: Path) -> None:
    """A clone without Git LFS has pointers instead of weights."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / NAME).write_text(pointer)
    assert refused(tmp_path / NAME) == (
        "is a Git LFS pointer, not the file itself\n"
        "The repository was cloned without Git LFS.\n"
        "Fetch the file: git lfs pull."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"abc",
        b"once upon a time",
        struct.pack("<Q", 8) + b"not json",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}" + b"more",
        struct.pack("<Q", 9) + b'{"a": {}}',
        struct.pack("<Q", 200) + b"neither a brace nor as long as that",
    ],
)
def test_an_invalid_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message has the library's reason."""
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(safetensors.SafetensorError) as library:
        safetensors.safe_open(tmp_path / NAME, framework="numpy")
    assert refused(tmp_path / NAME) == (
        f"is not a safetensors file: {library.value}\n"
        "Something else was saved under this name, or the file was damaged on its way.\n"
        "Save the adapter again with save_pretrained, or copy it again."
    )


def test_a_duplicate_name_is_refused(tmp_path: Path) -> None:
    """Two entries describe the same bytes, and readers differ in which one they keep."""
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f'{{"a":{entry},"a":{entry}}}'.encode()
    (tmp_path / NAME).write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\x80\x3f")
    assert refused(tmp_path / NAME) == (
        "names the same tensor twice: a\n"
        "No library writes such a header. The reader decides which of the two is loaded.\n"
        "Save the adapter again with save_pretrained."
    )


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process is still writing it."""
    path = tmp_path / NAME
    save_file({"a": values(16)}, path)
    header = weights._header(path)

    def header_then_shorter(path: Path) -> dict[str, object]:
        path.write_bytes(path.read_bytes()[:-64])
        return header

    monkeypatch.setattr(weights, "_header", header_then_shorter)
    assert refused(path) == (
        "became shorter while it was read\nSomething is writing to it.\nWait until it is saved, and inspect it again."
    )


def test_a_header_of_lists_in_lists_is_refused(tmp_path: Path) -> None:
    """The library refuses it, and the check for a truncated file does not fail on it."""
    header = b'{"a":' + b"[" * 100_000
    (tmp_path / NAME).write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(AdapterError, match="is not a safetensors file"):
        read_weights(tmp_path / NAME)
