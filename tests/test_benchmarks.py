"""Every benchmark at a toy size, so that none rots."""

import json
from pathlib import Path

from benchmarks import encoding, sandbox, sft
from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.presets import make_config
from codeshell_hf.publish.folder import save_folder


def test_encoding_checks_the_ids_and_prints_both(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "texts.txt").write_text("def f(x):\n    return x + 12\n" * 50)

    assert encoding.main([str(tmp_path / "tokenizer"), str(tmp_path / "texts.txt"), "--repeats", "1"]) == 0

    printed = capsys.readouterr().out
    assert "the same ids from both" in printed
    assert printed.count("MB/s") == 2


def test_fine_tuning_runs_beside_trls_script(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys) -> None:
    config = make_config(
        "nano", vocab_size=len(tiny_tokenizer), n_embd=32, n_head=4, n_layer=1, n_inner=64, n_positions=512
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = tiny_tokenizer.eos_token_id
    save_folder(CodeShellForCausalLM(config), tiny_tokenizer, tmp_path / "model")
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y = 1"}]
    (tmp_path / "c.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 200)

    assert sft.main([str(tmp_path / "model"), str(tmp_path / "c.jsonl"), "--steps", "2", "--repeats", "1"]) == 0

    printed = capsys.readouterr().out
    assert printed.count("tokens/s") == 2
    assert "ratio" in printed


def test_the_sandbox_runs_beside_bare_interpreters(capsys) -> None:
    assert sandbox.main(["--programs", "6", "--repeats", "1", "--rung", "none"]) == 0

    assert capsys.readouterr().out.count("programs/s") == 2
