"""A Space for a CodeShell model: a chat, and code filled in at a mark.

The variable MODEL names a folder or a model on the Hub; by default it is the tiny model that comes with codeshell-hf.
"""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import codeshell_hf

NAME = os.environ.get("MODEL") or codeshell_hf.bundled()
END = "|<end>|"
CURSOR = "<cursor>"
EXAMPLE = f'def read_lines(path):\n    """Lines of a text file."""\n    {CURSOR}\n    return lines\n'
QUESTIONS = ["Write `f(x)` that returns x plus 2.", "写 `f(x)`，返回 x 除以 5 的余数。"]

device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained(NAME)
model = AutoModelForCausalLM.from_pretrained(NAME, dtype="auto").to(device).eval()


def pair_turns(history: list[dict]) -> list[tuple[str, str]]:
    """Earlier questions with their answers, from Gradio's messages; a question without an answer is left out."""
    texts = [(turn["role"], read_text(turn["content"])) for turn in history]
    following = pairwise(texts)
    return [(one[1], two[1]) for one, two in following if (one[0], two[0]) == ("user", "assistant")]


def read_text(content: str | list[dict]) -> str:
    """The text of a message, whose content may be a list of parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def answer(question: str, history: list[dict], max_new_tokens: float = 256) -> Iterator[str]:
    """The answer, longer with each step."""
    config = GenerationConfig.from_model_config(model.config)
    config.update(
        max_new_tokens=int(max_new_tokens), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    text = ""
    for text in model.chat(question, pair_turns(history), tokenizer, stream=True, generation_config=config):
        yield cut_end(text).strip()


def cut_end(text: str) -> str:
    """The text without the end of the turn, of which only the beginning may have been generated yet."""
    begun = next((size for size in range(len(END), 0, -1) if text.endswith(END[:size])), 0)
    return text[: len(text) - begun]


def fill_in(code: str, max_new_tokens: float = 64) -> str:
    """The code with what the model writes at the mark, or at its end if there is none."""
    prefix, _, suffix = code.partition(CURSOR)
    room = model.config.max_position_embeddings - int(max_new_tokens)
    ids = torch.tensor([tokenizer.encode_infilling(prefix, suffix, max_tokens=room)], device=device)
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=int(max_new_tokens), do_sample=False,
        tokenizer=tokenizer, stop_strings=[END],
    )  # fmt: skip
    text = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).partition(END)[0]
    return prefix + text + suffix


def make_demo():
    """The page."""
    import gradio as gr

    with gr.Blocks(title="CodeShell") as demo:
        gr.Markdown(f"# CodeShell\n`{Path(NAME).name}`{'' if os.environ.get('MODEL') else ': a toy'}")
        with gr.Tab("Chat"):
            gr.ChatInterface(answer, examples=[[question] for question in QUESTIONS])
        with gr.Tab("Fill in"):
            code = gr.Code(EXAMPLE, language="python", label=f"Code with {CURSOR}")
            gr.Button("Fill in").click(fill_in, code, code, api_name="fill_in")
    return demo


if __name__ == "__main__":
    make_demo().launch()
