"""Issues and pull requests as conversations, from JSON Lines."""

from collections.abc import Iterator
from typing import Any

from .source import Document, Source, Unit
from .tables import LINE_FACTOR, LINE_MORE, parse_object, read_lines


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads conversations.

    Args:
        source: The source.
        unit: A file or a range of it.
        max_bytes: Longer documents come without content, as "too-large".

    Yields:
        One document an issue; a line that is no JSON object falls as "broken-line", one that nobody wrote in as
        "no-text".
    """
    for place, line, size in read_lines(unit, max_line_bytes=LINE_FACTOR * max_bytes + LINE_MORE):
        key = f"{unit.id}@{place}"
        if place < 0:
            yield Document(f"{unit.id}@", unit.id, reason="corrupt-file")
            continue
        row = parse_object(line) if line is not None else None
        if line is not None and not line.strip():
            continue
        if row is None:
            yield Document(key, unit.id, size=size, reason="too-large" if line is None else "broken-line")
            continue
        content = format_issue(row).encode("utf-8", errors="surrogatepass")
        repository = row.get("repo") or row.get("repo_name") or row.get("repository_url")
        reason = "no-text" if not content else "too-large" if len(content) > max_bytes else None
        number = row.get("number", row.get("issue_number", place))
        yield Document(
            id=key,
            path=f"issues/{number}",
            content=b"" if reason else content,
            size=len(content),
            language="github-issues",
            repository=str(repository) if repository else None,
            licence=unit.licence,
            reason=reason,
        )


def format_issue(row: dict[str, Any]) -> str:
    r"""Writes an issue as a conversation, its people numbered in the order they speak, machines left out.

    Args:
        row: As GitHub's interface gives it, with `comments` as a list, or with `events` as The Stack does.

    Returns:
        Text; empty where nobody says anything.

    >>> row = {"title": "Crash", "user": {"login": "ann"}, "body": "It falls.", "comments": []}
    >>> format_issue(row)
    'Title: Crash\n\nperson_0: It falls.\n'
    """
    events = row.get("events")
    comments = row.get("comments")
    turns = [(_name(event), event.get("text")) for event in events or [] if isinstance(event, dict)]
    if not turns:
        said = (
            [row, *(comment for comment in comments if isinstance(comment, dict))]
            if isinstance(comments, list)
            else [row]
        )
        turns = [(_name(turn), turn.get("body")) for turn in said]
    first = next((event.get("title") for event in events or [] if isinstance(event, dict) and event.get("title")), "")
    people: dict[str, str] = {}
    lines = []
    for person, text in turns:
        if isinstance(text, str) and text.strip() and not person.lower().endswith(("[bot]", "-bot", "_bot")):
            lines.append(f"{people.setdefault(person, f'person_{len(people)}')}: {text.strip()}")
    if not lines:
        return ""
    return "\n\n".join([f"Title: {str(row.get('title') or first).strip()}", *lines]) + "\n"


def _name(turn: dict[str, Any]) -> str:
    user = turn.get("user")
    return str(turn.get("author") or (user.get("login") if isinstance(user, dict) else user) or "somebody")
