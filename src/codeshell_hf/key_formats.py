"""Finds keys of services by their format, exactly where they stand.

Formats are those that the services document, or that their scanners publish; keys without a format of their own are
found by their names (`curate/named_secrets.py`).
"""

import re
from collections.abc import Iterator

# Each format is a mark, alone with lookaround, and what follows.
_ID = r"[A-Za-z0-9]"
_URL = r"[A-Za-z0-9_-]"
_HEX = r"[0-9a-f]"
_FORMATS: tuple[tuple[str, str], ...] = (
    # code hosts
    (r"gh[pousr]_", rf"{_ID}{{36,251}}"),
    (r"github_pat_", r"\w{22,244}"),
    (r"gl(?:pat|oas|dt|rtr?|cbt|ptt|ft|imt|agent|soat|ffct)-", rf"{_URL}{{20,300}}(?:\.\w{{2,}}){{0,2}}"),
    (r"GR1348941", rf"{_URL}{{20,}}"),
    (r"AT(?:ATT3xFfG|CTT3xFfG|BB)", r"[\w=-]{20,}"),
    # language models
    (r"sk-(?:proj|svcacct|admin|None|ant|or|lf)-", rf"{_URL}{{20,}}"),
    (r"sk-[A-Za-z0-9]{16}", rf"{_ID}{{16,}}"),
    (r"hf_", rf"{_ID}{{30,}}"),
    (r"gsk_", rf"{_ID}{{40,}}"),
    (r"xai-", rf"{_ID}{{60,}}"),
    (r"pplx-", rf"{_ID}{{40,}}"),
    (r"r8_", rf"{_ID}{{37}}"),
    # clouds
    (r"A(?:KIA|SIA|BIA|CCA|3T[A-Z0-9])", r"[A-Z0-9]{16}"),
    (r"IQoJb3JpZ2lu", r"[\w+/=-]{40,}"),
    (r"FwoGZXIvYXdz", r"[\w+/=-]{40,}"),
    (r"AIza", rf"{_URL}{{35}}"),
    (r"GOCSPX-", rf"{_URL}{{20,}}"),
    (r"ya29\.", rf"{_URL}{{20,}}"),
    (r"(?<=AccountKey=)", r"[A-Za-z0-9+/]{40,}={0,2}"),
    (r"LTAI", rf"{_ID}{{12,24}}"),
    (r"AKID", rf"{_ID}{{28,40}}"),
    (r"AKLT", r"[\w=-]{32,}"),
    (r"do[opr]_v1_", rf"{_HEX}{{64}}"),
    (r"dapi", rf"{_HEX}{{32}}(?:-\d)?"),
    (r"HRKU-", rf"{_URL}{{32,}}"),
    (r"FlyV1 fm", r"[\w+/=,]{40,}"),
    (r"hv[sbr]\.", rf"{_URL}{{24,}}"),
    (r"[A-Za-z0-9]{14}\.atlasv1\.", rf"{_URL}{{60,}}"),
    (r"pul-", rf"{_HEX}{{40}}"),
    (r"tskey-[a-z]+-", rf"{_URL}{{16,}}"),
    (r"sb(?:p|_secret)_", rf"{_URL}{{20,}}"),
    (r"pscale_[a-z]+_", r"[\w=.-]{32,}"),
    (r"AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    # messages and mail
    (r"xox[abceoprs][.-]", r"[A-Za-z0-9.-]{10,}"),
    (r"xapp-\d-", r"[A-Za-z0-9-]{10,}"),
    (r"(?<=hooks\.slack\.com/services/)", r"[\w/+-]{20,}"),
    (r"(?<=/webhooks/)", r"\d{15,}/[\w-]{50,}"),
    (r"[MNO][\w-]{23,27}\.", r"[\w-]{6}\.[\w-]{27,40}"),
    (r"\d{8,10}:A", r"[\w-]{34}"),
    (r"SG\.", rf"{_URL}{{16,32}}\.{_URL}{{32,64}}"),
    (r"key-[0-9a-f]{32}", r""),
    (r"[0-9a-f]{32}-us\d", r"\d?"),
    (r"(?:AC|SK)[0-9a-f]{32}", r""),
    (r"xkeysib-", rf"{_HEX}{{64}}-{_ID}{{16}}"),
    # payments and shops
    (r"[sr]k_(?:live|test)_", rf"{_ID}{{16,}}"),
    (r"whsec_", r"[A-Za-z0-9+/=]{24,}"),
    (r"shp(?:at|ca|pa|ss)_", r"[0-9a-fA-F]{32}"),
    (r"sq0[a-z]{3}-", rf"{_URL}{{22,}}"),
    (r"EAAA", rf"{_URL}{{60}}"),
    # packages and tools
    (r"npm_", rf"{_ID}{{36}}"),
    (r"(?<=_authToken=)", rf"{_URL}{{32,}}"),
    (r"pypi-AgE", rf"{_URL}{{50,}}"),
    (r"rubygems_", rf"{_HEX}{{48}}"),
    (r"oy2", r"[a-z0-9]{43}"),
    (r"dckr_(?:pat|oat)_", rf"{_URL}{{20,}}"),
    (r"lin_(?:api|oauth)_", rf"{_ID}{{32,}}"),
    (r"ntn_", rf"{_ID}{{40,}}"),
    (r"secret_[A-Za-z0-9]{12}", rf"{_ID}{{31}}"),
    (r"fig[dur]_", rf"{_URL}{{36,}}"),
    (r"PMAK-", rf"{_URL}{{40,}}"),
    (r"NRAK-", r"[A-Z0-9]{27}"),
    (r"glsa_", rf"{_ID}{{32}}_[0-9a-fA-F]{{8}}"),
    (r"glc_eyJ", r"[\w+/=-]{30,}"),
    (r"sntry[su]_", r"[\w+/=-]{32,}"),
    (r"dp\.(?:pt|st|ct|sa)\.", r"[\w.]{40,}"),
    (r"AKCp", rf"{_ID}{{60,}}"),
    (r"pat[A-Za-z0-9]{14}\.", rf"{_HEX}{{64}}"),
    (r"eyJ", rf"{_URL}{{10,}}\.{_URL}{{10,}}(?:\.{_URL}*)?"),
    (r"bce-v3/ALTAK", r"[\w/-]{40,}"),
)
# A key may follow an escape, as in "\\n", and Telegram's the word bot; it ends where its letters end.
_BEFORE = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=/bot))"
_KEY = re.compile(rf"{_BEFORE}(?:{'|'.join(mark + rest for mark, rest in _FORMATS)})(?![A-Za-z0-9_-])", re.ASCII)
SCANS = tuple(re.sub(r"\(\?<=(.*)\)", r"\1", mark) + rest for mark, rest in _FORMATS)
"""Patterns without lookaround, one of which every line with a key matches."""
# What documentation shows in a key's place.
_PLACEHOLDER = re.compile(r"(?i)example|x{6}|your|placeholder|0{12}|\*{3}")


def find_keys(line: str) -> Iterator[tuple[int, int]]:
    """The places of keys in a line, start and end; not of what documentation shows in a key's place."""
    for found in _KEY.finditer(line):
        if not _PLACEHOLDER.search(found[0]):
            yield found.span()
