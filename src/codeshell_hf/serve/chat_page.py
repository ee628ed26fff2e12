"""The chat page, one file that loads nothing else."""

import base64
import hashlib
import re
from pathlib import Path

CHAT_PAGE = Path(__file__).with_name("chat_page.html").read_text(encoding="utf-8")


def make_policy(page: str) -> str:
    """A content security policy that admits the page's own script and styles, and requests to its own server."""

    def hash_of(tag: str) -> str:
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; script-src 'sha256-{hash_of('script')}'; style-src 'sha256-{hash_of('style')}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


CONTENT_POLICY = make_policy(CHAT_PAGE)
