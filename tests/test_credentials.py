"""Keys and passwords are found wherever they stand, with their line."""

import pytest

from codeshell_hf.credentials import find_credentials

# In two parts, so that this file has none.
GITHUB = "ghp_" + "0123456789abcdefABCDEF0123456789abcd"
HUB = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"


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
