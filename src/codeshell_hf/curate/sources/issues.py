"""Issues and pull requests as conversations, from JSON Lines."""

from collections.abc import Iterator, Mapping

from ..settings import Source
from .source import Document, Unit
from .tables import LINE_FACTOR, LINE_MORE, parse_object, read_lines


def read(source: Source, unit: Unit, *, max_bytes: int) -> Iterator[Document]:
    """Reads issues, one document each; invalid JSON has the reason "broken-line", an issue without text "no-text"."""
    for place, line, size in read_lines(unit, max_line_bytes=LINE_FACTOR * max_bytes + LINE_MORE):
        key = f"{unit.id}@{place}"
        if isinstance(line, str):
            yield Document(key, unit.id, size=size, reason=line)
            continue
        if not line.strip():
            continue
        row = parse_object(line)
        if row is None:
            yield Document(key, unit.id, size=size, reason="broken-line")
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


def format_issue(row: Mapping[str, object]) -> str:
    r"""Formats an issue as a conversation; people are numbered by appearance, bots are left out; empty without text.

    Args:
        row: As in GitHub's API, with `comments` as a list, or with `events` as in The Stack.

    >>> row = {"title": "Crash", "user": {"login": "ann"}, "body": "It fails.", "comments": []}
    >>> format_issue(row)
    'Title: Crash\n\nperson_0: It fails.\n'
    """
    events, comments = _list_objects(row.get("events")), _list_objects(row.get("comments"))
    turns = [(_name(event), event.get("text")) for event in events]
    if not turns:
        turns = [(_name(turn), turn.get("body")) for turn in (row, *comments)]
    first = next((event["title"] for event in events if event.get("title")), "")
    people: dict[str, str] = {}
    lines = []
    for person, text in turns:
        if isinstance(text, str) and text.strip() and not person.lower().endswith(("[bot]", "-bot", "_bot")):
            lines.append(f"{people.setdefault(person, f'person_{len(people)}')}: {text.strip()}")
    if not lines:
        return ""
    return "\n\n".join([f"Title: {str(row.get('title') or first).strip()}", *lines]) + "\n"


def _list_objects(value: object) -> list[Mapping[str, object]]:
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []


def _name(turn: Mapping[str, object]) -> str:
    user = turn.get("user")
    return str(turn.get("author") or (user.get("login") if isinstance(user, dict) else user) or "somebody")
