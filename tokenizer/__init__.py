"""The tokenizer builder: trains vocabularies and saves them as tokenizers for transformers."""
