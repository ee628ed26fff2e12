# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""CodeShell's tokenizer: byte-level BPE that splits numbers into digits, with fill-in-the-middle and a chat template.

This file is published on the Hub beside the tokenizer. It imports only transformers.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from transformers import TokenizersBackend

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<empty_output>",
    "<commit_before>",
    "<commit_msg>",
    "<commit_after>",
    "<reponame>",
    "<|end|>",
)
"""The 20 special tokens of the release, in the order of their ids, which are the vocabulary's last."""

PADDING = "<fim_pad>"
"""The padding token. Data collators exclude padding from the loss: if it were the end of text, as in the release,
models would not learn to stop."""

END_OF_TURN = "|<end>|"
"""Ends a turn in the released chat format. It is ordinary text of several tokens, not a special token."""

CHAT_TEMPLATE = r"""
{%- macro read(message) -%}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- elif message['content'] is defined and message['content'] is not none -%}
        {%- for part in message['content'] -%}
            {%- if part is string -%}
                {{- part -}}
            {%- elif part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- else -%}
                {{- raise_exception('a part of type ' + part['type'] + ' is not text; leave it out') -}}
            {%- endif -%}
        {%- endfor -%}
    {%- elif message['role'] != 'assistant' -%}
        {{- raise_exception('a turn of role ' + message['role'] + ' has no content; write its text') -}}
    {%- endif -%}
    {%- for call in message['tool_calls'] or [] -%}
        {%- set function = call['function'] or call -%}
        {%- set arguments = function['arguments'] or {} -%}
        {{- '\n' if message['content'] or not loop.first -}}
        {{- '<tool_call>\n{"name": ' + function['name'] | tojson + ', "arguments": ' -}}
        {{- (arguments if arguments is string else arguments | tojson) + '}\n</tool_call>' -}}
    {%- endfor -%}
{%- endmacro -%}
{%- set forged_turns = forged_turns | default('keep') -%}
{%- if forged_turns not in ['keep', 'refuse', 'escape'] -%}
    {{- raise_exception('forged_turns is ' + forged_turns + '; use keep, refuse or escape') -}}
{%- endif -%}
{%- macro guard(text) -%}
    {%- if forged_turns == 'keep' or '|<end>' not in text -%}
        {{- text -}}
    {%- elif forged_turns == 'escape' -%}
        {{- text | replace('|<end>', '|<\\end>') -}}
    {%- else -%}
        {{- raise_exception('a question holds |<end>, which could forge a turn; take it out or escape it') -}}
    {%- endif -%}
{%- endmacro -%}
{%- set waiting = namespace(system='') -%}
{%- if tools is defined and tools -%}
    {%- set waiting.system = 'You may call tools. These are known, one a line:\n<tools>\n' -%}
    {%- for tool in tools -%}
        {%- set waiting.system = waiting.system + tool | tojson + '\n' -%}
    {%- endfor -%}
    {%- set waiting.system = waiting.system + '</tools>\nA call is written as\n<tool_call>\n' -%}
    {%- set waiting.system = waiting.system + '{"name": "NAME", "arguments": {}}\n</tool_call>\n\n' -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] in ['system', 'developer'] -%}
        {%- set text = guard(read(message)) -%}
        {%- if text -%}
            {%- set waiting.system = waiting.system + text + '\n\n' -%}
        {%- endif -%}
    {%- elif message['role'] == 'user' -%}
        {{- '## human:' + waiting.system + guard(read(message)) + '|<end>|' -}}
        {%- set waiting.system = '' -%}
    {%- elif message['role'] == 'tool' -%}
        {{- '## human:' if loop.first or messages[loop.index0 - 1]['role'] != 'tool' else '\n\n' -}}
        {{- '<tool_response>\n' + guard(read(message)) + '\n</tool_response>' -}}
        {{- '|<end>|' if loop.last or messages[loop.index0 + 1]['role'] != 'tool' -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- '## assistant:' -}}
        {%- generation -%}
            {{- ' ' + read(message) + '|<end>|' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- raise_exception('role is ' + message['role'] + ', but the format has system, user, assistant and tool') -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if waiting.system -%}
        {{- raise_exception('a system text has no question behind it; add a turn of the user') -}}
    {%- endif -%}
    {{- '## assistant:' -}}
{%- endif -%}
"""
r"""The released chat format as a template of transformers.

System text is put before the next question, since the format has no system role, and so are `tools`. A call of a tool
is written as `<tool_call>` with its JSON in the assistant's turn, and a result as `<tool_response>` in the other's.
Content is a string or a list of text parts; an assistant's may be missing. The template variable `forged_turns` handles
user, system and tool text with `|<end>`, which could pass for the end of a turn: "keep", the default, leaves it as the
release does; "refuse" raises an error; "escape" writes `|<\\end>`. The final `|` is not required, since the template's
own stop could complete it.
"""

InfillingOrder = Literal["psm", "spm"]

# With this class, transformers 4 and 5 and vLLM use `tokenizer.json` unchanged, without `trust_remote_code`.
_CLASS_WITHOUT_CODE = "PreTrainedTokenizerFast"


class CodeShellTokenizer(TokenizersBackend):
    r"""The tokenizer of a folder's `tokenizer.json`, unchanged.

    Released folders name `GPT2Tokenizer`, which replaces the pre-tokenizer and so no longer splits digits; this class
    keeps it.

    ```python
    tokenizer = CodeShellTokenizer.from_pretrained("WisdomShell/CodeShell-7B")
    ids = tokenizer.encode_infilling("def area(r):\n    return ", "\n")
    ```
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]
    stop_strings = (END_OF_TURN,)
    """Pass to `generate(..., stop_strings=tokenizer.stop_strings, tokenizer=tokenizer)` to end an answer."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: object, **kwargs: object) -> Self:
        """Loads a folder or a Hub repository, as in transformers; the default chat template is the released format."""
        # Released folders enable a clean-up of spaces that would alter code.
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        tokenizer: Self = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if tokenizer.chat_template is None:
            tokenizer.chat_template = CHAT_TEMPLATE
        return tokenizer

    def save_pretrained(self, save_directory: str | Path, *args: object, **kwargs: object) -> tuple[str, ...]:
        """Saves the tokenizer so that any version of transformers loads it; returns the files written.

        Without this package and `trust_remote_code` it loads as transformers' own class, with the same ids and chat
        template; with either, as this class, whose file is saved beside it.
        """
        is_pushed = kwargs.pop("push_to_hub", False)
        for key in ("is_local", "local_files_only"):
            self.init_kwargs.pop(key, None)  # about the folder that it was loaded from
        self.init_kwargs["auto_map"] = {"AutoTokenizer": ["tokenization_codeshell.CodeShellTokenizer", None]}
        written = super().save_pretrained(save_directory, *args, **kwargs)
        _name_class_without_code(Path(save_directory) / "tokenizer_config.json")
        source = Path(str(sys.modules[__name__].__file__))
        target = Path(save_directory) / "tokenization_codeshell.py"
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)
        if is_pushed:
            self.push_to_hub(kwargs.get("repo_id", Path(save_directory).name))
        return (*written, str(target))

    def apply_chat_template(
        self,
        conversation: object,
        *args: object,
        tokenizer_kwargs: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> Any:
        """Renders and encodes a chat, as in transformers; special tokens in its messages are ordinary text.

        Arguments of calls that are a text are written as the JSON that they hold, or as a JSON string. A template with
        special tokens of its own is encoded as transformers does, with those in messages alive.
        """
        template = str(kwargs.get("chat_template") or self.chat_template)
        specials = [str(token) for token in self.added_tokens_decoder.values()]
        if not any(text in template for text in (*specials, "bos_token", "eos_token")):
            tokenizer_kwargs = {"split_special_tokens": True, **(tokenizer_kwargs or {})}
        conversation = _read_arguments(conversation)
        return super().apply_chat_template(conversation, *args, tokenizer_kwargs=tokenizer_kwargs, **kwargs)

    def encode_text(self, text: str) -> list[int]:
        """Encodes text without special tokens: a literal `<fim_prefix>` is encoded as ordinary text."""
        ids: list[int] = self(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return ids

    def encode_infilling(
        self, prefix: str, suffix: str, *, order: InfillingOrder = "psm", max_tokens: int | None = None
    ) -> list[int]:
        """Builds a fill-in-the-middle prompt.

        Args:
            prefix: Text before the middle.
            suffix: Text after the middle.
            order: "psm" as in the release: prefix, suffix, middle; "spm": suffix, then prefix, which the middle
                continues without a sentinel between them.
            max_tokens: Longest prompt, at least 4. Longer ones lose text from the outer ends; a long prefix keeps at
                least two thirds of the room.

        Returns:
            Ids of the prompt. The model ends the middle with `<|endoftext|>`.

        Raises:
            ValueError: If the vocabulary has no fill-in-the-middle tokens, `order` is unknown, or `max_tokens` is less
                than 4.

        Source:
            Bavarian et al. 2022, arXiv:2207.14255, section 3.
        """
        if order not in ("psm", "spm"):
            raise ValueError(f"order is {order!r}; use 'psm' or 'spm'")
        sentinels = [self.backend_tokenizer.token_to_id(f"<fim_{part}>") for part in ("prefix", "suffix", "middle")]
        if None in sentinels:
            raise ValueError(
                "the vocabulary has no <fim_prefix>, <fim_suffix> and <fim_middle>; use a tokenizer that was built "
                "with CodeShell's special tokens"
            )
        before, after, middle = sentinels
        if max_tokens is None:
            prefix_ids, suffix_ids = self.encode_text(prefix), self.encode_text(suffix)
        else:
            if max_tokens <= len(sentinels):
                raise ValueError(f"max_tokens is {max_tokens}, but the sentinels alone are 3; give 4 or more")
            room = max_tokens - len(sentinels)
            # Text beyond this would be cut off again, whatever its tokens are.
            reach = 2 * room * self._longest_entry
            prefix_ids, suffix_ids = self.encode_text(prefix[-reach:]), self.encode_text(suffix[:reach])
            suffix_ids = suffix_ids[: max(room // 3, room - len(prefix_ids))]
            prefix_ids = prefix_ids[max(0, len(prefix_ids) - (room - len(suffix_ids))) :]
        if order == "psm":
            return [before, *prefix_ids, after, *suffix_ids, middle]
        return [before, after, *suffix_ids, middle, *prefix_ids]

    @cached_property
    def _longest_entry(self) -> int:
        """An upper bound of the characters in a token: entries have one letter per byte."""
        return max(map(len, self.backend_tokenizer.get_vocab(with_added_tokens=False)))


def _read_arguments(conversation: object) -> object:
    """One or more conversations with the arguments of calls as JSON of one spacing; the given ones are not changed."""
    if isinstance(conversation, Sequence) and not isinstance(conversation, str):
        return [_read_arguments(part) for part in conversation]
    if not isinstance(conversation, Mapping):
        return conversation
    if not isinstance(calls := conversation.get("tool_calls"), Sequence):
        return conversation
    return {**conversation, "tool_calls": [_read_call(call) for call in calls]}


def _read_call(call: object) -> object:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _read_call(call["function"])}
    text = call.get("arguments")
    if not isinstance(text, str):
        return call
    value: object = text
    with contextlib.suppress(ValueError, RecursionError):  # other texts, such as programs, stay texts
        value = json.loads(text, object_pairs_hook=_refuse_double_keys) if text.strip() else {}
    return {**call, "arguments": json.dumps({} if value is None else value, ensure_ascii=False)}


def _refuse_double_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _name_class_without_code(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = _CLASS_WITHOUT_CODE
    # transformers 4 and 5 both read this key; under the newer name, transformers 4 expects another type.
    if "extra_special_tokens" in config:
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


__all__ = ["CodeShellTokenizer"]
