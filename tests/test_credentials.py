"""Keys and passwords are found wherever they stand, with their line."""

import smtplib
import urllib.request
from pathlib import Path

import pytest

from codeshell_hf.credentials import find_credentials

ROOT = Path(__file__).parents[1]
# In two parts, so that this file has none.
GITHUB = "ghp_" + "0123456789abcdefABCDEF0123456789abcd"
HUB = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
SECRETS = {
    "AWS Access Key": "key = 'AKIA" + "ABCDEFGHIJKLMNOP'",
    "GitHub Token": "token: ghp_" + "a1B2" * 9,
    "Hugging Face token": "HF_TOKEN=hf_" + "aBcD" * 9,
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "Slack Token": "xoxb-" + "123456789012-123456789012-abcdefghijklmnopqrstuvwx",
    "Basic Auth Credentials": "https://someone:s3cr3t@example.org/x",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}


@pytest.mark.parametrize("secret", [GITHUB, HUB, AWS], ids=["github", "hub", "aws"])
@pytest.mark.parametrize("line", ["token = '{}'", "{}", "git clone https://x:{}@example.org/a"])
def test_a_token_is_found_whole_with_its_line(secret: str, line: str) -> None:
    found = list(find_credentials(f"a = 1\n\n{line.format(secret)}\nb = 2\n"))

    assert secret in {credential.value for credential in found}
    assert {credential.line for credential in found} == {3}


def test_every_line_with_a_secret_is_found_not_the_first_alone() -> None:
    text = f"{HUB}\nx\ny\n{GITHUB}\n{HUB}\nz\nkey = '{HUB}'\n"

    found = [(credential.line, credential.value) for credential in find_credentials(text)]

    assert found == [(1, HUB), (4, GITHUB), (5, HUB), (7, HUB)]


def test_hashes_and_names_are_no_secrets() -> None:
    text = "sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'\nhf_hub_download(hf_home)\n"

    assert list(find_credentials(text)) == []


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found_with_their_line(kind: str) -> None:
    text = f"x = 1\n{SECRETS[kind]}\nsha = '{'0123456789abcdef' * 4}'\n"

    found = list(find_credentials(text))
    assert (2, kind) in [(secret.line, secret.kind) for secret in found]
    assert {secret.line for secret in found} == {2}


def test_prefilter_loses_nothing_that_the_detectors_find() -> None:
    """On this project's own files, the standard library's mailers and testers, and the secrets above."""
    files = [*ROOT.glob("src/codeshell_hf/*.py"), Path(smtplib.__file__), Path(urllib.request.__file__)]
    text = "\n".join([*(path.read_text(encoding="utf-8") for path in files), *SECRETS.values()])
    filtered = list(find_credentials(text))

    assert len(filtered) >= len(SECRETS)
    assert filtered == list(find_credentials(text, uses_prefilter=False))
