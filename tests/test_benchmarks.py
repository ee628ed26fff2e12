"""Every benchmark at a toy size, so that none rots."""

from pathlib import Path

from benchmarks import encoding
from codeshell_hf import CodeShellTokenizer


def test_encoding_checks_the_ids_and_prints_both(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "texts.txt").write_text("def f(x):\n    return x + 12\n" * 50)

    assert encoding.main([str(tmp_path / "tokenizer"), str(tmp_path / "texts.txt"), "--repeats", "1"]) == 0

    printed = capsys.readouterr().out
    assert "the same ids from both" in printed
    assert printed.count("MB/s") == 2
