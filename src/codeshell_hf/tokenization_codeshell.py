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

import shutil
import sys
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

END_OF_TURN = "|<end>|"
"""What ends a turn in the released chat format. It is plain text of several tokens, not a special one."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '## human:' + message['content'] + '|<end>|' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- '## assistant:' -}}"
    "{%- generation -%}{{- ' ' + message['content'] + '|<end>|' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- raise_exception('role is ' + message['role'] + ', but the CodeShell chat format knows user and assistant;"
    " put a system text into the first user turn') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '## assistant:' -}}{%- endif -%}"
)

InfillingOrder = Literal["psm", "spm"]


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
        """Saves the tokenizer, as in transformers, with this file, for `trust_remote_code`; gives the files written."""
        is_pushed = kwargs.pop("push_to_hub", False)
        for key in ("is_local", "local_files_only"):
            self.init_kwargs.pop(key, None)  # of where it was read, which says nothing about what is written
        self.init_kwargs["auto_map"] = {"AutoTokenizer": ["tokenization_codeshell.CodeShellTokenizer", None]}
        written = super().save_pretrained(save_directory, *args, **kwargs)
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
            max_tokens: Longest prompt, 4 or more; what is furthest from the gap is left out. At least two thirds of
                the room are the prefix's where it needs them.

        Returns:
            Ids. The middle ends with `<|endoftext|>`.

        Raises:
            ValueError: If the vocabulary has no fill-in-the-middle tokens, the order is another, or there is no room.

        Source:
            Bavarian et al. 2022, arXiv:2207.14255, section 3.
        """
        if order not in ("psm", "spm"):
            raise ValueError(f"order is {order!r}; use 'psm' or 'spm'")
        vocabulary = self.get_vocab()
        sentinels = [vocabulary.get(f"<fim_{part}>") for part in ("prefix", "suffix", "middle")]
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
            # Hardly a token has more than 16 characters: text further away than that would be cut off again.
            prefix_ids, suffix_ids = self.encode_text(prefix[-16 * room :]), self.encode_text(suffix[: 16 * room])
            suffix_ids = suffix_ids[: max(room // 3, room - len(prefix_ids))]
            prefix_ids = prefix_ids[max(0, len(prefix_ids) - (room - len(suffix_ids))) :]
        if order == "psm":
            return [before, *prefix_ids, after, *suffix_ids, middle]
        return [before, after, *suffix_ids, middle, *prefix_ids]


__all__ = ["CodeShellTokenizer"]
