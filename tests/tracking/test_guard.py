"""The guard: what counts as a secret, masking of text, refusal of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.guard import Guard, clip, is_secret_name

SECRET = 'sEcr3t/"+value'
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "RAY_AUTH_TOKEN_PATH": "/home/user/ray.token",
    "RAY_AUTH_MODE": "token",
    "SHORT_TOKEN": "1",
    "TOKENIZERS_PARALLELISM": "parallel",
    "PATH": "/usr/bin-and-more",
}


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "DB_PASSWORD", "s3.api_key", "WANDB_API_KEY", "token"],
)
def test_is_secret_name_knows_credentials(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "RAY_AUTH_TOKEN_PATH", "max_new_tokens", "train.keep_ratio", "monkey", "KEYBOARD"],
)
def test_is_secret_name_leaves_ordinary_names(name: str) -> None:
    assert not is_secret_name(name)


def test_text_masks_values_wherever_they_stand() -> None:
    guard = Guard(ENVIRONMENT)
    masked = guard.text(f"a={SECRET}, id AKIDEXAMPLE, http://user:pw@host/x, path /usr/bin-and-more, 1, parallel")
    assert masked == "a=***, id ***, http://***@host/x, path /usr/bin-and-more, 1, parallel"


def test_text_masks_a_value_escaped_in_json() -> None:
    assert Guard(ENVIRONMENT).text('{"key": "sEcr3t/\\"+value"}') == '{"key": "***"}'


def test_values_mask_secret_keys_and_clip_long_ones() -> None:
    values = Guard({}).values({"api_key": "anything", "lr": 0.1, "sites": (1, 2), "long": "x" * 20}, limit=10)
    assert values == {"api_key": "***", "lr": "0.1", "sites": "[1, 2]", "long": "x" * 9 + "…"}


def test_check_file_refuses_a_credential_even_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpn_platform.tracking.guard._CHUNK_BYTES", 16)
    guard = Guard({"MY_SECRET": "0123456789"})
    harmless, folder = tmp_path / "fine.txt", tmp_path / "folder"
    harmless.write_text("nothing to see here, 012345678 only\n")
    guard.check_file(harmless)
    folder.mkdir()
    (folder / "leak.bin").write_bytes(b"x" * 10 + b"0123456789" + b"y" * 10)
    with pytest.raises(DpnError, match=r"leak\.bin: not logged") as caught:
        guard.check_file(folder)
    assert "0123456789" not in str(caught.value)


def test_clip_keeps_short_text() -> None:
    assert clip("abc", 3) == "abc"
