"""Tells languages that share an extension apart by the content of files."""

import re
from collections.abc import Iterable
from functools import lru_cache

READ_BYTES = 20_000
# For each extension, its languages, of which the first stays if nothing speaks for another, and evidence for each: a
# pattern, and what one match of it weighs.
_Evidence = tuple[str, int]
_CPP: tuple[_Evidence, ...] = (
    (
        r"^\s*(?:template\s*<|namespace\b|using\s+namespace\b|using\s+\w+\s*=|class\s+(?:\w+\s+)*\w+(?:\s+final)?\s*[:{;])",
        4,
    ),
    (r"^\s*(?:public|private|protected)\s*:", 4),
    (r"^\s*#\s*include\s*<(?:[a-z_]+|[\w/]+\.(?:hpp|hh|hxx))>", 4),
    (r"\b(?:std|boost|absl|at|c10|Eigen|cv)::\w", 4),
    (
        r"\b(?:constexpr|nullptr|noexcept|static_cast|dynamic_cast|reinterpret_cast|const_cast|decltype|typename|mutable)\b",
        3,
    ),
    (r"\b(?:virtual|explicit|friend|operator\s*[-+*/=<>!\[(]+|override)\b", 2),
    (r"\w\s*<\s*\w+(?:\s*,\s*\w+)*\s*>\s*::", 3),
    (r"\b\w+::\w+", 1),
    (r"[(,]\s*const\s+[\w:]+\s*&\s*\w*|\b\w+\s*&&\s*\w+\s*[,)]", 2),
    (r"^\s*enum\s+class\b|^\s*static_assert\s*\(|=\s*(?:default|delete)\s*;", 3),
)
_OBJECTIVE_C: tuple[_Evidence, ...] = (
    (r"^\s*@(?:interface|implementation|protocol|end|property|class|import|synthesize|optional|required)\b", 5),
    (r"^\s*#\s*import\s*[<\"]", 4),
    (r"^\s*[-+]\s*\([\w\s*<>]+\)\s*\w+", 4),
    (r"\bNS(?:String|Object|Array|Dictionary|Integer|URL|Error|Number|Data|Log|_ENUM|_ASSUME)\w*", 3),
    (r"\[\w+\s+\w+(?::|\])", 1),
)
_TABLE: dict[str, dict[str, tuple[_Evidence, ...]]] = {
    "h": {"c": ((r"\A", 2), (r"^\s*typedef\s+(?:struct|enum|union)\b", 1)), "cpp": _CPP, "objective-c": _OBJECTIVE_C},
    "inl": {"cpp": (), "c": ()},
    "m": {
        "objective-c": _OBJECTIVE_C,
        "matlab": (
            (r"^\s*%|^\s*##?\s", 2),
            (r"^\s*(?:function\b[^{;(]*(?:=|\n|\()|end(?:function|if|for|while)?\s*;?\s*$|elseif\b|otherwise\b|classdef\b)", 3),
            (r"\.\.\.\s*$|\.[*/^']|\bzeros\(|\bones\(|\bfprintf\(|\bnumel\(|\bdisp\(|\bplot\(|\bisempty\(|\bvarargin\b", 2),
            (r"^\s*(?:clear|close|clc|hold|figure)\b[^={(]*;?\s*$", 2),
            (r"^\s*(?:\[[\w\s,~]+\]|\w+)\s*=[^=].*;\s*(?:%.*)?$", 1),
        ),
        "mathematica": (
            (r"^\s*\(\*.*\*\)|\bBeginPackage\[|\bModule\[|\bBlock\[|\bTable\[|\bPlot\[|:=|/;|\w+\[\w*_\w*", 3),
            (r"->|//\w|@@|/@", 1),
        ),
    },
    "pl": {
        "perl": (
            (r"\A#!.*perl", 20),
            (r"^\s*(?:use\s+(?:strict|warnings|[A-Z]\w+|v?5)|package\s+[\w:]+|require\s|sub\s+\w+|my\s+[$@%(]|our\s|local\s)", 4),
            (r"[$@%]\w+\s*(?:=|->|\[|\{)|=~|\bshift\b|\bprint\s|\bforeach\b|^__END__|^=\w+|^\s*#|\breturn\b", 2),
        ),
        "prolog": (
            (r"\A#!.*(?:swipl|prolog|yap|gprolog)", 20),
            (r"^\s*:-\s*\w+|^\s*\?-\s", 6),
            (r":-\s*(?:%.*)?$|-->\s*(?:%.*)?$", 4),
            (r"^[a-z]\w*\([^$@]*\)\s*\.\s*$", 2),
            (r"\\\+|=\.\.|\bnl\s*[,.]|^%", 1),
        ),
    },
    "v": {
        "verilog": (
            (r"^\s*(?:module\s+\w+|endmodule|input\b|output\b|inout\b|wire\b|reg\b|always\s*@|assign\s|initial\b|`\w+|parameter\b|localparam\b)", 4),
            (r"\b\d+'[bhd][0-9a-fA-FxzXZ_]+|\bposedge\b|\bnegedge\b|<=", 2),
        ),
        "coq": (
            (r"^\s*(?:From\s+\w+\s+)?(?:Require\s+(?:Import|Export)|Import\s+\w+|Section\s+\w+|Module\s+(?:Type\s+)?\w+\.?)", 4),
            (r"^\s*(?:Lemma|Theorem|Definition|Fixpoint|Inductive|Proof|Qed|Defined|Notation|Hint|Ltac|Record|Instance|Variable|Context)\b", 4),
            (r"\bforall\b|->|\(\*|:=|\bintros\b|\brewrite\b|\bapply\b|\breflexivity\b", 1),
        ),
        "vlang": ((r"^\s*(?:pub\s+)?fn\s+(?:\(\w+\s+[&\w]+\)\s*)?\w+\(|^import\s+\w+$|^module\s+\w+$|\w+\s*:=\s|\bmut\s", 2),),
    },
    "cl": {
        "common-lisp": ((r"^\s*\((?:def\w+|in-package|let\b|setq|setf|cond\b|require|eval-when)", 4), (r"^\s*;|#\||\bnil\b|\(\w", 1)),
        "opencl": (
            (r"\b(?:__kernel|kernel\s+void|__global|__local|get_global_id|get_local_id|barrier\(|CLK_LOCAL_MEM_FENCE)", 5),
            (r"^\s*#\s*(?:define|if|ifdef|ifndef|include|pragma|endif)\b|;\s*$|\b(?:float|uint|int|half|double)\d*\s+\w+", 2),
        ),
    },
    "pp": {
        "pascal": (
            (r"(?i)^\s*(?:unit|program|uses|interface|implementation|procedure|function|var|begin|end)\b[^{]*[;.]?\s*$", 3),
            (r"(?i)\{\$\w+|:=|^\s*end[.;]|\bbegin\b", 2),
        ),
        "puppet": (
            (r"^\s*(?:class|define|node|plan|function)\s+[\w:'\"]+\s*(?:\(|\{|inherits)", 4),
            (r"=>|\$[\w:]+|^\s*\w+\s*\{\s*['\"$\[]|\binclude\s+[\w:]+|\bensure\b", 2),
            (r"^\s*#", 1),
        ),
    },
    "pro": {
        "prolog": ((r":-\s*$|^\s*:-|-->|^[a-z]\w*\([^)]*\)\s*[.:]", 4), (r"^%", 1)),
        "qmake": (
            (r"^\s*(?:QT|TARGET|TEMPLATE|SOURCES|HEADERS|FORMS|CONFIG|RESOURCES|DEFINES|LIBS|INCLUDEPATH|SUBDIRS|TRANSLATIONS|DESTDIR)\b[\w.]*\s*[-+*]?=", 5),
            (r"\\\s*$|^\s*#|\$\$|^\s*\w+(?:[:|]\w+)*\s*\{", 1),
        ),
        "idl": (
            (r"(?i)^\s*(?:pro|function)\s+\w+\s*(?:,|$)", 5),
            (r"(?i)^\s*;|^\s*(?:endif|endfor|endelse|endwhile|compile_opt|return|on_error|if)\b|\bkeyword_set\b|\bn_elements\b|\bthen\s+begin\b", 3),
            (r"\$\s*$|,\s*/\w+", 1),
        ),
    },
    "cls": {
        "tex": ((r"\\(?:NeedsTeXFormat|ProvidesClass|LoadClass|RequirePackage|newcommand|DeclareOption|def|let)\b", 5), (r"^\s*%|\\[a-zA-Z@]+", 1)),
        "visual-basic": (
            (r"(?i)^VERSION\s+1\.0\s+CLASS|^Attribute\s+VB_", 10),
            (r"(?i)^\s*(?:Option\s+Explicit|(?:Public|Private|Friend)\s+(?:Sub|Function|Property|Const|Enum|Type)|Dim\s+\w+|End\s+(?:Sub|Function|Property|If))\b", 3),
        ),
        "apex": (
            (r"(?i)^\s*(?:@\w+(?:\(.*\))?\s*)?(?:(?:public|private|global|virtual|abstract|with|without|inherited)\s+)+(?:sharing\s+)?(?:class|interface|enum)\s+\w+", 5),
            (r"\bSObject\w*|\bTrigger\.|\[\s*SELECT\b|\b(?:List|Set|Map)<\w+|\bDatabase\.|@(?:isTest|AuraEnabled|TestVisible)|System\.\w+", 3),
            (r";\s*$|^\s*\}", 1),
        ),
    },
    "ts": {
        "typescript": ((r"^\s*(?:import|export|const|let|interface|declare|class|type|enum|function|namespace)\b", 3), (r"=>|;\s*$|:\s*\w+", 1)),
        "xml": (),
    },
    "fs": {
        "f-sharp": ((r"^\s*(?:let|module|open|namespace|type|member|match|async)\b", 3), (r"\|>|->|^\s*\|\s|\bfun\b|\(\*|///", 1)),
        "glsl": (
            (r"^\s*#\s*version\b|^\s*(?:precision|uniform|varying|attribute|in|out|layout)\b.*;|\bgl_\w+|\bvoid\s+main\s*\(", 5),
            (r"\b(?:vec[234]|mat[234]|sampler2D)\b|;\s*$", 2),
        ),
        "forth": ((r"^\s*:\s+\S+|^\s*\\\s|\s;\s*$|\b(?:dup|swap|drop|rot|over)\b|\(\s[^)]*--[^)]*\)", 3),),
    },
    "d": {
        "d": ((r"^\s*(?:module\s+[\w.]+;|import\s+(?:std|core)\b|unittest\b|(?:alias|mixin|immutable|version)\b)", 5), (r";\s*$", 1)),
        "makefile": ((r"\A[^\n;{]*\.(?:o|lo|d|obj|rlib|rmeta|so)\b[^\n]*:\s", 30), (r"\\\s*$|^\S+:\s*$", 2)),
    },
    "rs": {"rust": ((r"^\s*(?:use|pub|fn|impl|mod|let|struct|enum|trait|#!?\[|extern|macro_rules!|//)", 3),), "xml": ()},
    "mm": {"objective-c": (*_OBJECTIVE_C, (r"^\s*#\s*include|;\s*$", 1)), "xml": ()},
    "t": {"perl": ((r"\A#!.*perl|^\s*(?:use\s+\w+|my\s+[$@%(]|sub\s)|\bok\(|\bis\(|^__END__", 3), (r"\$\w+", 1)), "shell": ((r"\A#!.*\bsh|^\s*(?:test_expect_\w+|\. |fi$|then$|esac$)", 4),)},
    "inc": {
        "php": ((r"<\?(?:php|=)", 30),),
        "assembly": ((r"(?i)^\s*(?:\.?(?:macro|equ|endm|section|byte|word)|%(?:define|macro|if\w*)|mov[lqw]?|push|pop|call|jmp)\b|^\s*;", 3),),
        "pascal": ((r"(?i)^\s*(?:procedure|function|begin|end;|const|type)\b|\{\$|:=", 3),),
        "sql": ((r"(?i)^\s*(?:select|insert|create|drop|alter|let|--)\b", 3),),
        "cpp": _CPP,
        "c": ((r"^\s*#\s*(?:define|include|if|ifdef|ifndef|endif)\b|;\s*$|/\*", 1),),
    },
    "f": {"fortran": ((r"(?i)^\s+(?:subroutine|program|integer|real|double precision|call|end|function|common|dimension|implicit|do)\b|^[cC*!]", 3),), "forth": ((r"^\s*:\s+\S+|^\s*\\\s|\(\s[^)]*--[^)]*\)", 4),)},
    "st": {"smalltalk": ((r"^\s*!|\bsubclass:|\bifTrue:|\^\s*\w+|:=|\binstanceVariableNames:", 3),), "text": ((r"^\w+\([\w,\s]*\)\s*::=|<if\(|\$\w+\$", 3),)},
    "sc": {"scala": ((r"^\s*(?:import|object|class|def|val|var|trait|package|case)\b", 3),), "supercollider": ((r"\bSynthDef\b|\|\w+(?:[,\s]+\w+)*\||\.ar\(|\.kr\(|^\s*\w+\s*:\s*\w+\s*\{|^\s*\+\s+\w+\s*\{", 4),)},
    "ml": {"ocaml": ((r"^\s*(?:let|open|module|type|val|match|external)\b|;;|\|\s|\(\*", 2),), "standard-ml": ((r"^\s*(?:structure|signature|functor|fun|datatype|infixr?)\b|=>", 3),)},
    "r": {"r": ((r"<-|\blibrary\(|\bfunction\s*\(|^\s*#", 2),), "rebol": ((r"(?i)\A\s*rebol\s*\[", 50),)},
    "md": {"markdown": ((r"\A", 3), (r"^#{1,6}\s|^[-*]\s|```", 1)), "lisp-machine-description": ((r"^\((?:define_\w+|include)\b", 10),)},
    "cs": {"c-sharp": ((r"^\s*(?:using|namespace|public|private|internal|class|\[)|;\s*$", 2),), "smalltalk": ((r"^!|!\s*$|\bmethodsFor:", 5),)},
    "bas": {"visual-basic": ((r"(?i)^\s*(?:Attribute VB_|Sub|Function|Dim|Private|Public|Option|End)\b", 2),)},
    "asm": {"assembly": ((r"\A", 1),)},
}  # fmt: skip
# Names above that are not among ours: what is left out of a corpus of languages.
_UNKNOWN = {"forth", "vlang", "supercollider", "standard-ml", "rebol", "lisp-machine-description"}


@lru_cache(maxsize=1)
def _compile() -> dict[str, dict[str, list[tuple["re.Pattern[bytes]", int]]]]:
    return {
        extension: {
            language: [(re.compile(pattern.encode(), re.MULTILINE), weight) for pattern, weight in evidence]
            for language, evidence in languages.items()
        }
        for extension, languages in _TABLE.items()
    }


def is_ambiguous(extension: str) -> bool:
    """Whether files with an extension, in lower case and without its dot, are of one of several languages."""
    return extension in _TABLE


def choose_language(extension: str, content: bytes) -> str | None:
    """The language of a file with an ambiguous extension, by its content; `None` if it is not a known one."""
    if "xml" in _TABLE[extension]:  # translations and drawings, which are many, are told by their first letter
        return (
            "xml" if content[:READ_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" else next(iter(_TABLE[extension]))
        )
    data = content[:READ_BYTES].replace(b"\r\n", b"\n")
    scores = {language: _weigh(data, evidence) for language, evidence in _compile()[extension].items()}
    best = max(scores, key=lambda language: scores[language])
    return None if best in _UNKNOWN else best


def _weigh(data: bytes, evidence: Iterable[tuple["re.Pattern[bytes]", int]]) -> float:
    """The weight of what matches, each pattern up to a bound, so that one habit of a file does not decide alone."""
    return sum(weight * min(sum(1 for _ in pattern.finditer(data)), _MOST_MATCHES) for pattern, weight in evidence)


_MOST_MATCHES = 12
