"""What a reward model says of texts."""

from collections.abc import Sequence

import torch

from ..modeling_codeshell import CodeShellForSequenceClassification
from ..text.chat import Message, pad_rows
from ..tokenization_codeshell import CodeShellTokenizer


@torch.no_grad()
def score_texts(
    model: CodeShellForSequenceClassification,
    tokenizer: CodeShellTokenizer,
    conversations: Sequence[Sequence[Message]],
    *,
    batch_size: int = 64,
) -> list[float]:
    """Scores conversations, those of like length together.

    Args:
        model: With a head of one score.
        tokenizer: Its chat template writes the last turn as it was said.
        conversations: Turns, the last of them an answer.
        batch_size: At a time.

    Returns:
        A score for each.
    """
    encoded = [
        tokenizer.apply_chat_template(list(turns), return_dict=True, tokenizer_kwargs={"split_special_tokens": True})[
            "input_ids"
        ]
        for turns in conversations
    ]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    scores: dict[int, float] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        rows = [encoded[index] for index in chosen]
        ids, mask = pad_rows(rows, tokenizer.pad_token_id, side="right")
        logits = model(ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
        scores.update(zip(chosen, logits[:, 0].float().tolist(), strict=True))
    return [scores[index] for index in range(len(encoded))]
