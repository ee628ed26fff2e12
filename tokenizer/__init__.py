"""The tokenizer builder: trains vocabularies and makes folders of them that transformers loads."""
