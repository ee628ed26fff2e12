"""Eight small functions in twelve languages: what is asked, a right answer, and tests, in the form of MultiPL-E."""

from collections.abc import Sequence
from dataclasses import dataclass

LANGUAGES = ("cpp", "d", "java", "jl", "js", "lua", "php", "r", "rkt", "rs", "swift")
TYPES: dict[str, dict[str, str]] = {
    "cpp": {"int": "long", "bool": "bool", "text": "std::string", "list": "std::vector<long>"},
    "d": {"int": "long", "bool": "bool", "text": "string", "list": "long[]"},
    "java": {"int": "long", "bool": "boolean", "text": "String", "list": "ArrayList<Long>"},
    "jl": {"int": "Int64", "bool": "Bool", "text": "String", "list": "Vector{Int64}"},
    "rs": {"int": "isize", "bool": "bool", "text": "String", "list": "Vec<isize>"},
    "swift": {"int": "Int", "bool": "Bool", "text": "String", "list": "[Int]"},
    "py": {"int": "int", "bool": "bool", "text": "str", "list": "list[int]"},
}
STOPS = {
    "cpp": ["\n}"],
    "d": ["\n\n", "\nvoid", "\nbool", "\nint"],
    "java": ["\n    }\n"],
    "jl": ["\nfunction", "\nmacro", "\n\n"],
    "js": ["\nfunction ", "\n/*", "\n//", "\nconsole.log"],
    "lua": ["\nlocal", "\nfunction", "\n--", "\n\n"],
    "php": ["\nfunction", "\n?>", "\n//", "\n#"],
    "r": ["\n#", "\n```"],
    "rkt": ["\n(define ", "\n#|", "\n;", "\n("],
    "rs": ["\n}"],
    "swift": ["\n}"],
}
COMMENT = {"jl": "#", "r": "#", "lua": "--", "rkt": ";;", "rs": "///", "swift": "///"}


Value = bool | int | str | list[int]


@dataclass(frozen=True)
class Function:
    """A function that is asked for.

    Args:
        name: In snake case, which every language keeps.
        says: What it does.
        parameters: Names and types.
        returns: The type of what it gives.
        cases: Arguments and results.
        answers: Its body in each language, without the braces around it.
    """

    name: str
    says: str
    parameters: tuple[tuple[str, str], ...]
    returns: str
    cases: tuple[tuple[tuple[Value, ...], Value], ...]
    answers: dict[str, str]


def same(text: str, *languages: str) -> dict[str, str]:
    """One answer for several languages."""
    return dict.fromkeys(languages, text)


C_LIKE = ("cpp", "d", "java", "js")
FUNCTIONS = (
    Function(
        "add_three", "Return x plus 3.", (("x", "int"),), "int", (((1,), 4), ((-3,), 0), ((10,), 13)),
        same("return x + 3;", *C_LIKE) | same("return x + 3", "py", "jl", "lua", "swift")
        | {"php": "return $x + 3;", "r": "return(x + 3)", "rkt": "(+ x 3)", "rs": "x + 3"},
    ),
    Function(
        "double_it", "Return x times 2.", (("x", "int"),), "int", (((1,), 2), ((-3,), -6), ((0,), 0)),
        same("return x * 2;", *C_LIKE) | same("return x * 2", "py", "jl", "lua", "swift")
        | {"php": "return $x * 2;", "r": "return(x * 2)", "rkt": "(* x 2)", "rs": "x * 2"},
    ),
    Function(
        "is_even", "Tell whether x is even.", (("x", "int"),), "bool", (((4,), True), ((7,), False), ((0,), True)),
        same("return x % 2 == 0;", *C_LIKE) | same("return x % 2 == 0", "py", "jl", "lua", "swift")
        | {"php": "return $x % 2 === 0;", "r": "return(x %% 2 == 0)", "rkt": "(even? x)", "rs": "x % 2 == 0"},
    ),
    Function(
        "larger", "Return the larger of a and b.", (("a", "int"), ("b", "int")), "int",
        (((1, 2), 2), ((5, 3), 5), ((-1, -1), -1)),
        same("return a > b ? a : b;", *C_LIKE) | same("return max(a, b)", "py", "jl", "swift")
        | {
            "lua": "return math.max(a, b)", "php": "return max($a, $b);", "r": "return(max(a, b))",
            "rkt": "(max a b)", "rs": "a.max(b)",
        },
    ),
    Function(
        "total", "Return the sum of the values.", (("values", "list"),), "int", (((( [1, 2, 3]),), 6), (([-5],), -5)),
        {
            "cpp": "long sum = 0;\nfor (long value : values) sum += value;\nreturn sum;",
            "d": "long sum = 0;\nforeach (value; values) sum += value;\nreturn sum;",
            "java": "long sum = 0;\nfor (long value : values) sum += value;\nreturn sum;",
            "jl": "return sum(values)", "js": "return values.reduce((sum, value) => sum + value, 0);",
            "lua": "local sum = 0\nfor _, value in ipairs(values) do sum = sum + value end\nreturn sum",
            "php": "return array_sum($values);", "py": "return sum(values)", "r": "return(sum(values))",
            "rkt": "(apply + values)", "rs": "values.iter().sum()", "swift": "return values.reduce(0, +)",
        },
    ),
    Function(
        "count_positive", "Return how many of the values are above 0.", (("values", "list"),), "int",
        ((([1, -2, 3],), 2), (([0, -1],), 0), (([7],), 1)),
        {
            "cpp": "long count = 0;\nfor (long value : values) if (value > 0) count++;\nreturn count;",
            "d": "long count = 0;\nforeach (value; values) if (value > 0) count++;\nreturn count;",
            "java": "long count = 0;\nfor (long value : values) if (value > 0) count++;\nreturn count;",
            "jl": "return count(value -> value > 0, values)",
            "js": "return values.filter(value => value > 0).length;",
            "lua": "local count = 0\nfor _, value in ipairs(values) do\n    if value > 0 then count = count + 1 end\nend\n"
            "return count",
            "php": "$count = 0;\nforeach ($values as $value) { if ($value > 0) { $count++; } }\nreturn $count;",
            "py": "return sum(value > 0 for value in values)", "r": "return(sum(values > 0))",
            "rkt": "(length (filter positive? values))",
            "rs": "values.iter().filter(|value| **value > 0).count() as isize",
            "swift": "return values.filter { $0 > 0 }.count",
        },
    ),
    Function(
        "repeat_text", "Return the text, written so many times.", (("text", "text"), ("times", "int")), "text",
        ((("ab", 3), "ababab"), (("x", 1), "x")),
        {
            "cpp": "std::string out;\nfor (long i = 0; i < times; i++) out += text;\nreturn out;",
            "d": "string result;\nforeach (i; 0 .. times) result ~= text;\nreturn result;",
            "java": "return text.repeat((int) times);", "jl": "return text ^ times", "js": "return text.repeat(times);",
            "lua": "return string.rep(text, times)", "php": "return str_repeat($text, $times);",
            "py": "return text * times", "r": "return(strrep(text, times))",
            "rkt": "(string-append* (make-list times text))", "rs": "text.repeat(times as usize)",
            "swift": "return String(repeating: text, count: times)",
        },
    ),
    Function(
        "product_to", "Return the product of 1 to n.", (("n", "int"),), "int", (((1,), 1), ((4,), 24), ((6,), 720)),
        same("long product = 1;\nfor (long i = 2; i <= n; i++) product *= i;\nreturn product;", "cpp", "d", "java")
        | {
            "jl": "return prod(1:n)",
            "js": "let product = 1;\nfor (let i = 2; i <= n; i++) product *= i;\nreturn product;",
            "lua": "local product = 1\nfor i = 2, n do product = product * i end\nreturn product",
            "php": "$product = 1;\nfor ($i = 2; $i <= $n; $i++) { $product *= $i; }\nreturn $product;",
            "py": "product = 1\nfor i in range(2, n + 1):\n    product *= i\nreturn product",
            "r": "return(prod(1:n))", "rkt": "(apply * (range 1 (+ n 1)))", "rs": "(1..=n).product()",
            "swift": "return (1...n).reduce(1, *)",
        },
    ),
)  # fmt: skip


def write_value(value: Value, language: str) -> str:
    """Writes a value in a language."""
    if isinstance(value, bool):
        names = {"py": ("False", "True"), "r": ("FALSE", "TRUE"), "rkt": ("#f", "#t")}
        return names.get(language, ("false", "true"))[value]
    if isinstance(value, int):
        return f"{value}{ {'java': 'l', 'd': 'L'}.get(language, '') }"
    if isinstance(value, str):
        return f'String::from("{value}")' if language == "rs" else f'"{value}"'
    items = [write_value(item, language) for item in value]
    if language == "rkt":
        return f"(list {' '.join(items)})"
    before, after = {
        "cpp": ("std::vector<long>({", "})"), "java": ("new ArrayList<Long>(Arrays.asList(", "))"),
        "lua": ("{", "}"), "php": ("array(", ")"), "r": ("c(", ")"), "rs": ("vec![", "]"),
    }.get(language, ("[", "]"))  # fmt: skip
    return f"{before}{', '.join(items)}{after}"


def write_prompt(function: Function, language: str) -> str:
    """Writes the prompt: a comment and the head of the function."""
    names = [name for name, _ in function.parameters]
    types = TYPES.get(language, {})
    typed = [(name, types.get(kind, "")) for name, kind in function.parameters]
    result = types.get(function.returns, "")
    arguments, shown = function.cases[0]
    example = write_call(function, arguments, language)
    lines = [function.says, f">>> {example}", write_value(shown, language)]
    if language == "py":
        head = f"def {function.name}({', '.join(f'{name}: {kind}' for name, kind in typed)}) -> {result}:"
        return "\n".join([head, f'    """{lines[0]}', "", *(f"    {line}" for line in lines[1:]), '    """', ""])
    comment = "\n".join(f"{COMMENT.get(language, '//')} {line}" for line in lines)
    c_head = f"{result} {function.name}({', '.join(f'{kind} {name}' for name, kind in typed)})"
    heads = {
        "cpp": f"#include <assert.h>\n#include <stdio.h>\n#include <string>\n#include <vector>\n{comment}\n{c_head} {{\n",
        "d": f"{comment}\n{c_head} ",
        "java": f"import java.util.*;\nclass Problem {{\n    {comment.replace(chr(10), chr(10) + '    ')}\n"
        f"    public static {c_head} {{\n",
        "jl": f"{comment}\nfunction {function.name}({', '.join(f'{name}::{kind}' for name, kind in typed)})::{result} \n",
        "js": f"{comment}\nfunction {function.name}({', '.join(names)}){{\n",
        "lua": f"{comment}\nlocal function {function.name}({', '.join(names)})\n",
        "php": f"<?php\n{comment}\nfunction {function.name}({', '.join('$' + name for name in names)}) {{\n",
        "r": f"{comment}\n{function.name} <- function({', '.join(names)}) {{",
        "rkt": f"#lang racket\n\n{comment}\n(define ({function.name} {' '.join(names)})\n",
        "rs": f"{comment}\nfn {function.name}({', '.join(f'{name}: {kind}' for name, kind in typed)}) -> {result} {{\n",
        "swift": f"{comment}\nfunc {function.name}({', '.join(f'{name}: {kind}' for name, kind in typed)}) -> {result} {{\n",
    }
    return heads[language]


def write_call(function: Function, arguments: Sequence[Value], language: str, name: str | None = None) -> str:
    """Writes a call."""
    values = [write_value(value, language) for value in arguments]
    called = name or function.name
    if language == "rkt":
        return f"({called} {' '.join(values)})"
    if language == "swift":
        values = [f"{name}: {value}" for (name, _), value in zip(function.parameters, values, strict=True)]
    return f"{called}({', '.join(values)})"


def write_answer(function: Function, language: str) -> str:
    """Writes a correct answer, as it follows the prompt."""
    depth = 8 if language == "java" else 2 if language == "rkt" else 4
    body = "".join(f"{' ' * depth}{line}\n" for line in function.answers[language].split("\n"))
    before = {"d": "{\n", "r": "\n"}.get(language, "")
    after = {"d": "}\n", "jl": "end\n", "js": "}\n", "lua": "end\n", "php": "}\n", "r": "}\n", "rkt": ")\n",
             "swift": "}\n"}.get(language, "")  # fmt: skip
    return f"{before}{body}{after}"


def write_tests(function: Function, language: str) -> str:
    """Writes what is run against an answer."""
    name = function.name if language in ("java", "swift") else "candidate"
    calls = [
        (write_call(function, arguments, language, name), write_value(result, language))
        for arguments, result in function.cases
    ]
    lines = [
        {
            "cpp": f"    assert({call} == ({value}));",
            "d": f"    assert({call} == {value});",
            "java": f"    assert({call}.equals({value}));"
            if function.returns == "text"
            else f"    assert({call} == ({value}));",
            "jl": f"\t@test({call} == {value})",
            "js": f"  assert.deepEqual({call},{value});",
            "lua": f"    lu.assertEquals({call}, {value})",
            "php": f'    if ({call} !== {value}) {{ throw new Exception("Test failed!"); }}',
            "py": f"    assert {call} == {value}",
            "r": f"    stopifnot(isTRUE(all.equal({call}, {value})))",
            "rkt": f"    (check-within {call} {value} 0.001)",
            "rs": f"    assert_eq!({call}, {value});",
            "swift": f"assert({call} == {value})",
        }[language]
        for call, value in calls
    ]
    body = "\n".join(lines)
    return {
        "cpp": f"}}\nint main() {{\n    auto candidate = {function.name};\n{body}\n}}\n",
        "d": f"unittest\n{{\n    alias candidate = {function.name};\n\n{body}\n}}\nvoid main(){{}}",
        "java": f"    }}\n    public static void main(String[] args) {{\n{body}\n    }}\n\n}}\n",
        "jl": f"using Test\n\n@testset begin\n\ncandidate = {function.name};\n{body}\nend\n",
        "js": f"const assert = require('node:assert');\n\n\nfunction test() {{\n  let candidate = {function.name};\n{body}\n}}\n"
        "\ntest();",
        "lua": f"lu = require('luaunit')\n\nfunction test_humaneval()\nlocal candidate = {function.name}\n{body}\nend\n\n"
        "os.exit(lu.LuaUnit.run())",
        "php": f"function candidate(...$args) {{\n    return {function.name}(...$args);\n}}\n\nfunction test(): void {{\n{body}\n}}\n"
        "\ntest();",
        "py": f"def check(candidate):\n{body}\n",
        "r": f"test_humaneval <- function() {{\n    candidate <- {function.name}\n{body}\n}}\ntest_humaneval()",
        "rkt": f"(require rackunit)\n\n(define (test-humaneval) \n\n  (let (( candidate {function.name}))\n{body}\n))\n\n"
        "(test-humaneval)",
        "rs": f"}}\n\nfn main() {{\n    let candidate = {function.name};\n{body}\n}}\n",
        "swift": body,
    }[language]
