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
"""CodeShell's tokenizer: byte-level BPE that splits digits one by one, with fill-in-the-middle and the chat format.

This file travels to the Hub together with the tokenizer. It imports transformers and nothing else of the package.
"""

import json
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

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
"""The 20 special tokens of the release, in the order of their ids, which are the last of the vocabulary."""

PADDING = "<fim_pad>"
"""What fills rows up. Data collators take the loss off padding: were it the end of text, as in the release, no model
that they train would learn to stop."""

END_OF_TURN = "|<end>|"
"""What ends a turn in the released chat format. It is plain text of several tokens, not a special one."""

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
                {{- raise_exception('a part of type ' + part['type'] + ' is no text; leave it out') -}}
            {%- endif -%}
        {%- endfor -%}
    {%- elif message['role'] != 'assistant' -%}
        {{- raise_exception('a turn of role ' + message['role'] + ' has no content; write its text') -}}
    {%- endif -%}
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
{%- for message in messages -%}
    {%- if message['role'] in ['system', 'developer'] -%}
        {%- set text = guard(read(message)) -%}
        {%- if text -%}
            {%- set waiting.system = waiting.system + text + '\n\n' -%}
        {%- endif -%}
    {%- elif message['role'] == 'user' -%}
        {{- '## human:' + waiting.system + guard(read(message)) + '|<end>|' -}}
        {%- set waiting.system = '' -%}
    {%- elif message['role'] == 'assistant' -%}
        {{- '## assistant:' -}}
        {%- generation -%}
            {{- ' ' + read(message) + '|<end>|' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- raise_exception('role is ' + message['role'] + ', but the format has system, user and assistant') -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if waiting.system -%}
        {{- raise_exception('a system text has no question behind it; add a turn of the user') -}}
    {%- endif -%}
    {{- '## assistant:' -}}
{%- endif -%}
"""
r"""The released chat format, as a template of transformers.

A system text stands before the next question, since the format has no place of its own for it. A content is a text or a
list of parts of text; an assistant's may be missing. `forged_turns` is a variable of the template, for questions and
system texts that hold `|<end>`, which could pass for the end of a turn: "keep", the default, does as the release;
"refuse" raises; "escape" writes `|<\\end>`. The last letter of the stop is not asked for, since the template's own stop
could complete it.
"""

InfillingOrder = Literal["psm", "spm"]

# With this name transformers 4 and 5, and vLLM, take `tokenizer.json` as it stands and ask for no trust.
_CLASS_WITHOUT_CODE = "PreTrainedTokenizerFast"


class CodeShellTokenizer(TokenizersBackend):
    r"""The tokenizer of a folder's `tokenizer.json`, as it stands.

    A released folder names `GPT2Tokenizer`, which rebuilds the steps before BPE and so loses the splitting of digits;
    this class keeps them.

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
        """Loads a folder or a Hub repository, as in transformers; a folder without a chat format gets the released."""
        # Released folders ask for a clean-up of spaces that would alter code.
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        tokenizer: Self = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if tokenizer.chat_template is None:
            tokenizer.chat_template = CHAT_TEMPLATE
        return tokenizer

    def save_pretrained(self, save_directory: str | Path, *args: object, **kwargs: object) -> tuple[str, ...]:
        """Saves the tokenizer so that any transformers loads it; gives the files written.

        Without this package and without `trust_remote_code` it is transformers' own class with the same ids and chat
        format; with either it is this class, whose file is saved beside it.
        """
        is_pushed = kwargs.pop("push_to_hub", False)
        for key in ("is_local", "local_files_only"):
            self.init_kwargs.pop(key, None)  # of where it was read, which says nothing about what is written
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

    def encode_text(self, text: str) -> list[int]:
        """Encodes text in which nothing is special: a literal `<fim_prefix>` stays the letters it is made of."""
        ids: list[int] = self(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return ids

    def encode_infilling(
        self, prefix: str, suffix: str, *, order: InfillingOrder = "psm", max_tokens: int | None = None
    ) -> list[int]:
        """Builds the prompt after which the model writes what stands between two texts.

        Args:
            prefix: Text before the gap.
            suffix: Text behind the gap.
            order: "psm" as in the release: prefix, suffix, middle; "spm": the suffix, then the prefix, which the
                middle continues without a sentinel.
            max_tokens: Longest prompt, 4 or more; what is furthest from the gap is left out where not all fits. At
                least two thirds of the room are the prefix's where it needs them.

        Returns:
            Ids. The middle ends with `<|endoftext|>`.

        Raises:
            ValueError: If the vocabulary has no fill-in-the-middle tokens, the order is another, or there is no room.

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
            # Text further away than this would be cut off again, whatever its tokens are.
            reach = 2 * room * self._longest_entry
            prefix_ids, suffix_ids = self.encode_text(prefix[-reach:]), self.encode_text(suffix[:reach])
            suffix_ids = suffix_ids[: max(room // 3, room - len(prefix_ids))]
            prefix_ids = prefix_ids[max(0, len(prefix_ids) - (room - len(suffix_ids))) :]
        if order == "psm":
            return [before, *prefix_ids, after, *suffix_ids, middle]
        return [before, after, *suffix_ids, middle, *prefix_ids]

    @cached_property
    def _longest_entry(self) -> int:
        """No token stands for more characters: in byte-level letters it has one for each byte."""
        return max(map(len, self.backend_tokenizer.get_vocab(with_added_tokens=False)))


def _name_class_without_code(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = _CLASS_WITHOUT_CODE
    # Both releases know this key; under the newer name, transformers 4 expects something else.
    if "extra_special_tokens" in config:
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


__all__ = ["CodeShellTokenizer"]
