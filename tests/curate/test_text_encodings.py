"""Text that is not UTF-8 is decoded by its true encoding, and data is not."""

import random
from pathlib import Path

import pytest

from codeshell_hf.curate.text_encodings import decode_text
from codeshell_hf.text.documents import read_documents
from tests.curate.toy_corpus import GOOD, run, write_files

CHINESE = (
    "// 计算购物车的总价\nint total(int *prices, int n) {\n    int sum = 0; // 总和\n    return sum;\n}\n",
    '# 用户登录模块，检查用户名和密码是否正确\ndef login(name):\n    print("登录成功")\n',
    "/* 初始化 */\nint x;\n",
    'printf("请输入一个整数：");\nscanf("%d", &n);\n',
)
TRADITIONAL = (
    "// 計算購物車的總價，並且傳回結果給使用者\nint total(void);\n",
    "/* 這個函式會檢查輸入的資料是否正確 */\n",
)
JAPANESE = (
    "// これはテストです。合計を計算します\nint total(void);\n",
    "/* ファイルを開いて、データを読み込む */\nvoid read(void) {}\n",
    'puts("エラーが発生しました");\n',
)
KOREAN = ("// 사용자의 이름을 확인하고 결과를 출력합니다\nint check(void);\n",)
EUROPEAN = (
    "# Größe der Datei prüfen\nx = 1\n",
    "// café, déjà vu, naïve\nint a;\n",
    "/* Para José Muñoz */\n",
    "% Übergänge zählen\n",
)
RUSSIAN = ("// Эта функция считает сумму элементов массива\nint sum(void);\n",)
CASES = [
    *((text, name, found) for text in CHINESE for name, found in (("gb18030", "gb18030"), ("gbk", "gb18030"))),
    *((text, "big5", "big5") for text in TRADITIONAL),
    *((text, name, found) for text in JAPANESE for name, found in (("shift_jis", "cp932"), ("euc_jp", "euc_jp"))),
    *((text, "euc_kr", "cp949") for text in KOREAN),
    *((text, "latin-1", "latin-1") for text in EUROPEAN),
    *((text, "cp1251", "cp1251") for text in RUSSIAN),
    ("say “yes” – naïve", "cp1252", "cp1252"),
    *((text, name, name) for text in (*CHINESE, *EUROPEAN) for name in ("utf-16", "utf-32", "utf-8")),
    *((text, name, name) for text in EUROPEAN for name in ("utf-16-le", "utf-16-be")),
    (GOOD, "utf-8-sig", "utf-8"),
    ("# 这是配置文件，请不要修改\nport = 8080\n", "gb2312", "gb18030"),
    ("// 返回值说明：成功返回零，失败返回错误码\nint open_dev();\n", "gbk", "gb18030"),
    ("/* 檔案讀取失敗，請重新嘗試 */\nint f;\n", "big5", "big5"),
    ("// メモリを確保できませんでした\nreturn -1;\n", "shift_jis", "cp932"),
    ("# 変数の初期化を行う\nx = 0\n", "euc_jp", "euc_jp"),
    ("// 파일을 열 수 없습니다\nreturn 0;\n", "euc_kr", "cp949"),
    ("# Straße und Fußgänger\nx=1\n", "latin-1", "latin-1"),
    ("x = 'naïve'\n", "utf-16", "utf-16"),
    ("print('hello world')\n# plain\n", "utf-16-le", "utf-16-le"),
    ("// Проверка входных данных и вывод ошибок\nint a;\n", "cp1251", "cp1251"),
    ("# 你好，世界\n# 你好，世界\n# 你好，世界\n", "utf-8-sig", "utf-8"),
]


@pytest.mark.parametrize(("text", "encoding", "found"), CASES)
def test_text_is_decoded_by_its_encoding(text: str, encoding: str, found: str) -> None:
    assert decode_text(text.encode(encoding)) == (text, found)


def test_a_long_text_is_decoded_whatever_its_beginning() -> None:
    for text, encoding in ((CHINESE[0], "gb18030"), (JAPANESE[0], "shift_jis")):
        long = "int x;\n" * 5000 + text * 2000

        assert (decode_text(long.encode(encoding)) or ("",))[0] == long


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01\0\0\0\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"# \x81\x02\xff\x03\n",
        b"a\0b",
        b"\xe9\x01\x02 and \xe8\x0e\n",
    ],
)
def test_data_is_no_text(data: bytes) -> None:
    assert decode_text(data) is None


@pytest.mark.parametrize("text", CHINESE)
def test_utf_8_with_a_wrong_byte_is_no_other_encoding(text: str) -> None:
    assert decode_text(text.encode()[:-3] + b"\xe4\n") is None
    assert decode_text(b'x = "\xed\xa0\x80"\n') is None


def test_random_bytes_are_no_text() -> None:
    rng = random.Random(0)

    assert [decode_text(rng.randbytes(400)) for _ in range(50)] == [None] * 50


def test_documents_are_written_as_utf_8_and_their_encodings_counted(tmp_path: Path) -> None:
    files = {
        "a.py": f"# 计算圆的面积，返回结果\n{GOOD}".encode("gb18030"),
        "b.py": f"# Größe und Fläche\n{GOOD}x = 1\n".encode("latin-1"),
        "c.py": f"{GOOD}y = 2\n".encode("utf-16"),
        "d.py": f"{GOOD}z = 3\n".encode(),
        "e.py": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
    }

    outcome = run(write_files(tmp_path / "in", files), tmp_path / "out", near_duplicates=None)

    texts = {row["id"]: row["text"] for row in read_documents(tmp_path / "out", columns=["id", "text"])}
    assert texts["source/a.py"].startswith("# 计算圆的面积，返回结果\n")
    assert texts["source/b.py"].startswith("# Größe und Fläche\n")
    assert texts["source/c.py"] == f"{GOOD}y = 2\n"
    assert outcome.measures["encodings"] == {"gb18030": 1, "latin-1": 1, "utf-16": 1}
    assert dict(outcome.funnel.reasons()) == {"lfs-pointer": 1}
