"""The operations from which nano's tasks are composed, with their wordings."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "list", "truth"]


@dataclass(frozen=True)
class Operation:
    """One step of a task.

    Args:
        code: The expression, with `{x}` for the argument and `{k}` for the number.
        takes: Kind of the argument.
        gives: Kind of the result.
        english: Wordings, with the same letters in braces.
        chinese: The same in Chinese.
        new_english: A wording that is not trained on; `None` for an operation that is not trained on at all.
        new_chinese: The same in Chinese.
    """

    code: str
    takes: Kind
    gives: Kind
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    new_english: str | None = None
    new_chinese: str | None = None

    @property
    def is_held_out(self) -> bool:
        """Whether no training task has it."""
        return self.new_english is None


OPERATIONS = (
    Operation(
        "{x} + {k}", "number", "number",
        ("adds {k} to {x}", "increases {x} by {k}"), ("把 {x} 加上 {k}", "给 {x} 增加 {k}"),
        "makes {x} larger by {k}", "将 {x} 变大 {k}",
    ),
    Operation(
        "{x} - {k}", "number", "number",
        ("subtracts {k} from {x}", "decreases {x} by {k}"), ("把 {x} 减去 {k}", "从 {x} 中减少 {k}"),
        "takes {k} away from {x}", "将 {x} 变小 {k}",
    ),
    Operation(
        "{x} * {k}", "number", "number",
        ("multiplies {x} by {k}", "scales {x} by the factor {k}"), ("把 {x} 乘以 {k}", "把 {x} 变为 {k} 倍"),
        "takes {x} {k} times", "把 {x} 放大 {k} 倍",
    ),
    Operation(
        "{x} // {k}", "number", "number",
        ("divides {x} by {k} and rounds down", "takes the quotient of {x} by {k}"),
        ("把 {x} 整除以 {k}", "取 {x} 除以 {k} 的商"),
        "counts how often {k} fits into {x}", "算出 {x} 里有几个 {k}",
    ),
    Operation(
        "{x} % {k}", "number", "number",
        ("takes the remainder of {x} by {k}", "reduces {x} modulo {k}"),
        ("取 {x} 除以 {k} 的余数", "把 {x} 对 {k} 取模"),
        "keeps what is left of {x} after division by {k}", "算出 {x} 被 {k} 除后剩下的数",
    ),
    Operation(
        "max({x}, {k})", "number", "number",
        ("takes the larger of {x} and {k}", "raises {x} to at least {k}"),
        ("取 {x} 和 {k} 中较大的数", "使 {x} 至少为 {k}"),
        "replaces {x} by {k} if that is larger", "{x} 比 {k} 小时改用 {k}",
    ),
    Operation(
        "min({x}, {k})", "number", "number",
        ("takes the smaller of {x} and {k}", "lowers {x} to at most {k}"),
        ("取 {x} 和 {k} 中较小的数", "使 {x} 至多为 {k}"),
        "replaces {x} by {k} if that is smaller", "{x} 比 {k} 大时改用 {k}",
    ),
    Operation(
        "-{x}", "number", "number",
        ("negates {x}", "flips the sign of {x}"), ("取 {x} 的相反数", "把 {x} 变号"),
        "turns {x} into minus {x}", "在 {x} 前面加负号",
    ),
    Operation(
        "abs({x})", "number", "number",
        ("takes the absolute value of {x}", "drops the sign of {x}"), ("取 {x} 的绝对值", "去掉 {x} 的符号"),
        "makes {x} positive", "把 {x} 变为正数",
    ),
    Operation(
        "{x} > {k}", "number", "truth",
        ("tells whether {x} is greater than {k}", "checks that {x} is above {k}"),
        ("判断 {x} 是否大于 {k}", "检查 {x} 是否超过 {k}"),
        "answers if {x} exceeds {k}", "看 {x} 是不是比 {k} 大",
    ),
    Operation(
        "{x} < {k}", "number", "truth",
        ("tells whether {x} is less than {k}", "checks that {x} is below {k}"),
        ("判断 {x} 是否小于 {k}", "检查 {x} 是否低于 {k}"),
        "answers if {x} stays under {k}", "看 {x} 是不是比 {k} 小",
    ),
    Operation(
        "{x} == {k}", "number", "truth",
        ("tells whether {x} equals {k}", "checks that {x} is {k}"), ("判断 {x} 是否等于 {k}", "检查 {x} 是否为 {k}"),
        "answers if {x} and {k} are the same", "看 {x} 和 {k} 是否相同",
    ),
    Operation(
        "{x}[:{k}]", "list", "list",
        ("takes the first {k} items of {x}", "keeps the {k} leading items of {x}"),
        ("取 {x} 的前 {k} 个元素", "保留 {x} 开头的 {k} 个元素"),
        "cuts {x} after {k} items", "在 {k} 个元素后截断 {x}",
    ),
    Operation(
        "{x}[-{k}:]", "list", "list",
        ("takes the last {k} items of {x}", "keeps the {k} final items of {x}"),
        ("取 {x} 的后 {k} 个元素", "保留 {x} 末尾的 {k} 个元素"),
        "picks {k} items from the end of {x}", "从 {x} 尾部拿 {k} 个元素",
    ),
    Operation(
        "{x}[{k}:]", "list", "list",
        ("drops the first {k} items of {x}", "skips {k} items of {x}"),
        ("去掉 {x} 的前 {k} 个元素", "跳过 {x} 的 {k} 个元素"),
        "starts {x} at index {k}", "从下标 {k} 开始取 {x}",
    ),
    Operation(
        "{x}[::-1]", "list", "list",
        ("reverses {x}", "puts {x} in opposite order"), ("把 {x} 反转", "把 {x} 的顺序颠倒"),
        "turns {x} around", "把 {x} 倒过来",
    ),
    Operation(
        "sorted({x})", "list", "list",
        ("sorts {x}", "puts {x} in ascending order"), ("把 {x} 排序", "把 {x} 按升序排列"),
        "orders {x} from small to large", "从小到大整理 {x}",
    ),
    Operation(
        "[y for y in {x} if y > {k}]", "list", "list",
        ("keeps the items of {x} above {k}", "selects what is greater than {k} in {x}"),
        ("保留 {x} 中大于 {k} 的元素", "选出 {x} 里超过 {k} 的元素"),
        "removes from {x} all up to {k}", "删掉 {x} 中不超过 {k} 的元素",
    ),
    Operation(
        "sum({x})", "list", "number",
        ("takes the sum of {x}", "adds up {x}"), ("求 {x} 的和", "把 {x} 全部相加"),
        "totals {x}", "算出 {x} 的总数",
    ),
    Operation(
        "len({x})", "list", "number",
        ("takes the length of {x}", "counts the items of {x}"), ("取 {x} 的长度", "数出 {x} 的元素个数"),
        "measures how long {x} is", "看 {x} 有多少个元素",
    ),
    Operation(
        "max({x})", "list", "number",
        ("takes the largest item of {x}", "finds the maximum of {x}"), ("取 {x} 的最大元素", "找出 {x} 的最大值"),
        "picks the top of {x}", "挑出 {x} 里最大的",
    ),
    Operation(
        "min({x})", "list", "number",
        ("takes the smallest item of {x}", "finds the minimum of {x}"), ("取 {x} 的最小元素", "找出 {x} 的最小值"),
        "picks the bottom of {x}", "挑出 {x} 里最小的",
    ),
    Operation("{x} ** {k}", "number", "number", ("raises {x} to the power {k}",), ("求 {x} 的 {k} 次方",)),
    Operation("{k} - {x}", "number", "number", ("subtracts {x} from {k}",), ("用 {k} 减去 {x}",)),
    Operation(
        "{x} % {k} == 0", "number", "truth", ("tells whether {x} is divisible by {k}",), ("判断 {x} 能否被 {k} 整除",)
    ),
    Operation("{x}[:-{k}]", "list", "list", ("drops the last {k} items of {x}",), ("去掉 {x} 的后 {k} 个元素",)),
    Operation("{x}[{k}]", "list", "number", ("takes the item of {x} at index {k}",), ("取 {x} 中下标为 {k} 的元素",)),
    Operation(
        "sorted({x})[::-1]", "list", "list", ("puts {x} in descending order",), ("把 {x} 按降序排列",)
    ),
    Operation(
        "[y for y in {x} if y < {k}]", "list", "list",
        ("keeps the items of {x} below {k}",), ("保留 {x} 中小于 {k} 的元素",),
    ),
)  # fmt: skip
