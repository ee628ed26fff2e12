"""Lists of repository addresses, which are cloned shallowly, with licence and stars from their hosts."""

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

from ...errors import DataError
from ...manifest import write_text
from ...text.documents import name_repository
from ..settings import Source
from . import folders
from .licences import find_licence
from .source import Document, Unit

CLONE_TIMEOUT_S = 600
FACTS_TIMEOUT_S = 20
CLONES_AT_ONCE = 8
_ADDRESS = re.compile(r"(?:https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+")
_logger = logging.getLogger(__name__)


def list_units(source: Source) -> Iterator[Unit]:
    """Clones the repositories of a list, unless they exist, and lists every file with its licence and stars.

    A repository that cannot be cloned is one unit with the reason "not-cloned".

    Args:
        source: A text file with one address per line; `#` starts a comment.

    Raises:
        DataError: If the list is missing, or a line is not an address.
    """
    addresses = read_addresses(source.place)
    clones = Path(source.clones or f"{source.path}.clones")
    with ThreadPoolExecutor(CLONES_AT_ONCE) as pool:
        checkouts = list(pool.map(lambda address: clone(address, clones), addresses))
    for address, checkout in zip(addresses, checkouts, strict=True):
        if checkout is None:
            yield Unit(source.name, address, 0, f"{source.name}/{address}", repository=address, reason="not-cloned")
            continue
        facts = json.loads((checkout / ".git" / "facts.json").read_text(encoding="utf-8"))
        yield from folders.walk(
            *(source, checkout),
            prefix=f"{source.name}/{name_repository(address)}",
            repository=address,
            licence=facts["licence"] or source.licence,
            stars=facts["stars"],
        )


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads a file of a clone."""
    yield from folders.read(source, unit, max_bytes=max_bytes)


def read_addresses(path: Path) -> list[str]:
    """Reads the distinct addresses of a list, in order.

    Raises:
        DataError: If it cannot be read, or a line is not an address.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text; name a file with one address per line") from error
    addresses = [text for line in lines if (text := line.partition("#")[0].strip())]
    if not addresses:
        raise DataError(f"{path} names no repository; write one address per line")
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            raise DataError(f"{address!r} in {path} is not a repository's address; write https://host/owner/name")
    return list(dict.fromkeys(addresses))


def clone(address: str, clones: Path) -> Path | None:
    """Clones the last commit of a repository into the folder `clones`, unless it exists; `None` if git fails."""
    checkout = clones / f"{name_repository(address)}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    if (checkout / ".git" / "facts.json").exists():
        return checkout
    temporary = checkout.with_name(f"{checkout.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    command = ["git", "-c", "core.symlinks=false", "clone", "--quiet", "--depth", "1", "--no-tags", "--", address]
    # No password prompt, no user-defined filters, no LFS files.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_ASKPASS": "true"}
    try:
        result = subprocess.run(
            [*command, str(temporary)], env=environment, capture_output=True, timeout=CLONE_TIMEOUT_S, check=False
        )
        failure = result.stderr.decode(errors="replace").strip().splitlines()[-1:] if result.returncode else None
    except FileNotFoundError as error:
        raise DataError("git is not installed, so repositories cannot be cloned; install it") from error
    except subprocess.TimeoutExpired:
        failure = [f"it took more than {CLONE_TIMEOUT_S} s"]
    if failure is not None:
        _logger.warning("%s was not cloned: %s", address, " ".join(failure) or "unknown reason")
        shutil.rmtree(temporary, ignore_errors=True)
        return None
    facts = find_facts(address)
    facts["licence"] = facts["licence"] or find_licence(temporary)
    write_text(temporary / ".git" / "facts.json", json.dumps(facts))
    temporary.rename(checkout)
    return checkout


def find_facts(address: str) -> dict[str, object]:
    """Requests `licence` and `stars` from a repository's host; each is `None` without an answer.

    GitHub, with the token in `GITHUB_TOKEN`, GitLab and Gitea (Forgejo, Codeberg) are supported.
    """
    place = urlsplit(address)
    name = place.path.strip("/").removesuffix(".git")
    unknown: dict[str, object] = {"licence": None, "stars": None}
    if place.scheme not in ("http", "https") or "/" not in name:
        return unknown
    headers = {"Accept": "application/json", "User-Agent": "codeshell-hf"}
    if place.hostname == "github.com":
        if token := os.environ.get("GITHUB_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        questions = [f"https://api.github.com/repos/{name}"]
    else:
        host = f"{place.scheme}://{place.netloc.rpartition('@')[2]}"
        questions = [f"{host}/api/v1/repos/{name}", f"{host}/api/v4/projects/{quote(name, safe='')}?license=true"]
    for question in questions:
        try:
            request = urllib.request.Request(question, headers=headers)  # noqa: S310 - the scheme was checked
            with urllib.request.urlopen(request, timeout=FACTS_TIMEOUT_S) as answer:  # noqa: S310
                return pick_facts(json.load(answer))
        except (OSError, ValueError, urllib.error.URLError):
            continue
    return unknown


def pick_facts(answer: dict[str, object]) -> dict[str, object]:
    """Extracts `licence` and `stars` from an answer of GitHub, GitLab or Gitea."""
    licence = answer.get("license")
    if licence is None and isinstance(names := answer.get("licenses"), list) and names:
        licence = names[0]
    if isinstance(licence, dict):
        licence = licence.get("spdx_id") or licence.get("nickname") or licence.get("key")
    stars = next((answer[key] for key in ("stargazers_count", "star_count", "stars_count") if key in answer), None)
    return {"licence": licence if licence not in ("NOASSERTION", "") else None, "stars": stars}
