"""Lists of repository addresses, which are cloned shallowly, with licence and stars from their hosts."""

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
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
from .cleaning import clean_number
from .licences import find_licence
from .source import Document, Unit, walk_files

FACTS_TIMEOUT_S = 20
CLONES_AT_ONCE = 8
_MAX_FILES = 2_000_000
_POLL_S = 0.5
_MAX_ANSWER_BYTES = 1 << 20
_ADDRESS = re.compile(r"(?:https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+")
_logger = logging.getLogger(__name__)


def list_units(source: Source) -> Iterator[Unit]:
    """Clones the repositories of a list, unless they exist, and lists every file with its licence and stars.

    A repository that cannot be cloned is one unit with the reason "not-cloned", or "too-large".

    Args:
        source: A text file with one address per line; `#` starts a comment.

    Raises:
        DataError: If the list is missing, or a line is not an address.
    """
    addresses = read_addresses(source.place)
    clones = Path(source.clones or f"{source.path}.clones")
    with ThreadPoolExecutor(CLONES_AT_ONCE) as pool:
        checkouts = list(
            pool.map(
                lambda address: clone(
                    address, clones, max_bytes=source.max_clone_bytes, timeout_s=source.clone_timeout_s
                ),
                addresses,
            )
        )
    for address, checkout in zip(addresses, checkouts, strict=True):
        if isinstance(checkout, str):
            yield Unit(source.name, address, 0, f"{source.name}/{address}", repository=address, reason=checkout)
            continue
        facts = _read_facts(checkout)
        yield from folders.walk(
            *(source, checkout),
            prefix=f"{source.name}/{name_repository(address)}",
            repository=address,
            licence=str(facts["licence"]) if facts.get("licence") else source.licence,
            stars=clean_number(facts.get("stars")),
        )


def _read_facts(checkout: Path) -> dict[str, object]:
    try:
        facts = json.loads((checkout / ".git" / "facts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


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


def clone(address: str, clones: Path, *, max_bytes: int, timeout_s: float) -> Path | str:
    """Clones the last commit of a repository into the folder `clones`, unless it exists.

    Returns:
        The checkout, or the reason that there is none: "not-cloned", or "too-large" beyond `max_bytes` on disk.
    """
    checkout = clones / f"{name_repository(address)}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    if (checkout / ".git" / "facts.json").exists():
        return checkout
    temporary = checkout.with_name(f"{checkout.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    failure = _run_clone(address, temporary, max_bytes=max_bytes, timeout_s=timeout_s)
    if failure is not None:
        reason, message = failure
        _logger.warning("%s was not cloned: %s", address, message)
        shutil.rmtree(temporary, ignore_errors=True)
        return reason
    facts = find_facts(address)
    facts["licence"] = facts["licence"] or find_licence(temporary)
    write_text(temporary / ".git" / "facts.json", json.dumps(facts))
    temporary.rename(checkout)
    return checkout


def _run_clone(address: str, folder: Path, *, max_bytes: int, timeout_s: float) -> tuple[str, str] | None:
    """Runs git within bounds of time and size; `None` if it succeeds, else the reason and what git says."""
    command = ["git", "-c", "core.symlinks=false", "-c", f"core.hooksPath={os.devnull}"]
    command += ["clone", "--quiet", "--depth", "1", "--no-tags", "--", address, str(folder)]
    # No password prompt, no user-defined filters, no LFS files.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_ASKPASS": "true"}
    ends_s = time.monotonic() + timeout_s
    with tempfile.TemporaryFile() as errors:
        try:
            # A session of its own, so that git's helpers end with it.
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
            )
        except FileNotFoundError as error:
            raise DataError("git is not installed, so repositories cannot be cloned; install it") from error
        try:
            while process.poll() is None:
                if time.monotonic() > ends_s:
                    return "not-cloned", f"it took more than {timeout_s:g} s"
                if not _is_within(folder, max_bytes):
                    return "too-large", f"it has more than {max_bytes} bytes or {_MAX_FILES} files"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode == 0:
            is_within = _is_within(folder, max_bytes)
            return None if is_within else ("too-large", f"it has more than {max_bytes} bytes or {_MAX_FILES} files")
        errors.seek(0)
        said = errors.read(_MAX_ANSWER_BYTES).decode(errors="replace").strip().split("\n")
        return "not-cloned", said[-1] or "unknown reason"


def _is_within(folder: Path, max_bytes: int) -> bool:
    """Whether a folder, which git may be writing, has no more bytes and files than allowed."""
    total = 0
    for files, (_, size, _) in enumerate(walk_files(folder)):
        total += max(size, 0)
        if total > max_bytes or files >= _MAX_FILES:
            return False
    return True


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
                found = json.loads(answer.read(_MAX_ANSWER_BYTES))
                return pick_facts(found) if isinstance(found, dict) else unknown
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            continue
    return unknown


def pick_facts(answer: dict[str, object]) -> dict[str, object]:
    """Extracts `licence` and `stars` from an answer of GitHub, GitLab or Gitea."""
    licence = answer.get("license")
    if licence is None and isinstance(names := answer.get("licenses"), list) and names:
        licence = names[0]
    if isinstance(licence, dict):
        licence = licence.get("spdx_id") or licence.get("nickname") or licence.get("key")
    if not isinstance(licence, str):
        licence = None
    stars = next((answer[key] for key in ("stargazers_count", "star_count", "stars_count") if key in answer), None)
    return {"licence": licence if licence not in ("NOASSERTION", "") else None, "stars": clean_number(stars)}
