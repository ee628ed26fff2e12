"""Identifies programming languages by file name, extension and shebang, under The Stack's names."""

import re
from pathlib import PurePath

# name: extensions, file names, interpreters
LANGUAGES: dict[str, tuple[str, str, str]] = {
    "ada": ("adb ads", "", ""),
    "assembly": ("asm s", "", ""),
    "awk": ("awk", "", "awk gawk mawk"),
    "batchfile": ("bat cmd", "", ""),
    "c": ("c h", "", "tcc"),
    "c-sharp": ("cs csx", "", ""),
    "clojure": ("clj cljs cljc edn", "", ""),
    "cmake": ("cmake", "CMakeLists.txt", ""),
    "coffeescript": ("coffee", "Cakefile", "coffee"),
    "common-lisp": ("lisp lsp cl asd", "", "sbcl clisp"),
    "cpp": ("cpp cc cxx c++ hpp hh hxx h++ ipp inl tpp", "", ""),
    "css": ("css", "", ""),
    "cuda": ("cu cuh", "", ""),
    "cython": ("pyx pxd pxi", "", ""),
    "d": ("d di", "", "rdmd"),
    "dart": ("dart", "", "dart"),
    "dockerfile": ("dockerfile", "Dockerfile Containerfile", ""),
    "elixir": ("ex exs", "", "elixir"),
    "elm": ("elm", "", ""),
    "emacs-lisp": ("el", ".emacs", ""),
    "erlang": ("erl hrl", "rebar.config", "escript"),
    "f-sharp": ("fs fsi fsx", "", ""),
    "fortran": ("f f77 f90 f95 f03 f08 for", "", ""),
    "git-commits": ("", "", ""),
    "github-issues": ("", "", ""),
    "glsl": ("glsl vert frag", "", ""),
    "go": ("go", "", ""),
    "graphql": ("graphql gql", "", ""),
    "groovy": ("groovy gradle", "Jenkinsfile", "groovy"),
    "haskell": ("hs lhs", "", "runhaskell"),
    "html": ("html htm xhtml", "", ""),
    "java": ("java", "", ""),
    "java-server-pages": ("jsp jspx", "", ""),
    "javascript": ("js mjs cjs jsx", "Jakefile", "node nodejs"),
    "json": ("json jsonl geojson webmanifest", ".prettierrc .eslintrc composer.lock", ""),
    "julia": ("jl", "", "julia"),
    "jupyter-notebook": ("ipynb", "", ""),
    "jupyter-scripts": ("", "", ""),
    "jupyter-structured": ("", "", ""),
    "kotlin": ("kt kts", "", ""),
    "less": ("less", "", ""),
    "lua": ("lua", "", "lua luajit"),
    "makefile": ("mk mak make", "Makefile GNUmakefile makefile Kbuild", "make"),
    "markdown": ("md markdown mkd", "", ""),
    "mathematica": ("nb wl mathematica", "", "wolframscript"),
    "matlab": ("matlab", "", ""),
    "meson": ("", "meson.build meson_options.txt", ""),
    "objective-c": ("m mm", "", ""),
    "ocaml": ("ml mli", "", "ocaml"),
    "pascal": ("pas dpr lpr pp", "", ""),
    "perl": ("pl pm pod t", "", "perl"),
    "php": ("php phtml php3 php4 php5", "", "php"),
    "powershell": ("ps1 psd1 psm1", "", "pwsh"),
    "prolog": ("pro prolog", "", "swipl"),
    "protocol-buffer": ("proto", "", ""),
    "python": ("py pyi pyw", "SConstruct wscript", "python python2 python3 pypy pypy3"),
    "r": ("r rmd", ".Rprofile", "rscript"),
    "racket": ("rkt rktl scrbl", "", "racket"),
    "restructuredtext": ("rst", "", ""),
    "ruby": ("rb rake gemspec ru", "Gemfile Rakefile", "ruby"),
    "rust": ("rs", "", ""),
    "sas": ("sas", "", ""),
    "scala": ("scala sbt sc", "", "scala"),
    "scheme": ("scm ss sld", "", "guile"),
    "scss": ("scss sass", "", ""),
    "shell": ("sh bash zsh ksh fish", ".bashrc .profile .zshrc configure", "sh bash zsh ksh dash fish"),
    "smalltalk": ("st", "", ""),
    "solidity": ("sol", "", ""),
    "sql": ("sql ddl", "", ""),
    "stack-exchange": ("", "", ""),
    "stan": ("stan", "", ""),
    "svelte": ("svelte", "", ""),
    "swift": ("swift", "", "swift"),
    "systemverilog": ("sv svh", "", ""),
    "tcl": ("tcl tk", "", "tclsh wish"),
    "tex": ("tex sty cls bib", "", ""),
    "text": ("txt", "README LICENSE COPYING AUTHORS NEWS CHANGES", ""),
    "toml": ("toml", "", ""),
    "typescript": ("ts tsx mts cts", "", "deno ts-node"),
    "verilog": ("v vh", "", ""),
    "vhdl": ("vhd vhdl", "", ""),
    "visual-basic": ("vb vbs bas", "", ""),
    "vue": ("vue", "", ""),
    "web-text": ("", "", ""),
    "xml": ("xml xsd xslt svg plist", "", ""),
    "xslt": ("xsl", "", ""),
    "yacc": ("y yy", "", ""),
    "yaml": ("yaml yml", "", ""),
    "zig": ("zig", "", ""),
}

_BY_EXTENSION = {ext: name for name, (exts, _, _) in LANGUAGES.items() for ext in exts.split()}
_BY_FILE_NAME = {file: name for name, (_, files, _) in LANGUAGES.items() for file in files.split()}
_BY_INTERPRETER = {word: name for name, (_, _, words) in LANGUAGES.items() for word in words.split()}
# Other spellings.
_SPELLINGS = {
    **dict.fromkeys(("python3", "py"), "python"),
    **dict.fromkeys(("csharp", "c#"), "c-sharp"),
    **dict.fromkeys(("ts", "tsx"), "typescript"),
    "bash": "shell",
    "c++": "cpp",
    "dockerfiles": "dockerfile",
    "f#": "f-sharp",
    "golang": "go",
    "js": "javascript",
    "objective-c++": "objective-c",
    "protocol-buffers": "protocol-buffer",
}
_SHEBANG = re.compile(rb"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+)*)?([A-Za-z][A-Za-z_+-]*[0-9]?)")


def name_language(path: str) -> str | None:
    """Names the language of a file, a key of `LANGUAGES`, by the last part of its path.

    >>> name_language("src/main.rs"), name_language("Makefile"), name_language("LICENSES.xyz")
    ('rust', 'makefile', None)
    """
    file = PurePath(path)
    return _BY_FILE_NAME.get(file.name) or _BY_EXTENSION.get(file.suffix[1:].lower())


def name_language_by_shebang(start: bytes) -> str | None:
    """Names the language of a script by the shebang in its first bytes."""
    found = _SHEBANG.match(start)
    if found is None:
        return None
    word = found[1].decode().lower()
    return _BY_INTERPRETER.get(word) or _BY_INTERPRETER.get(word.rstrip("0123456789"))


def find_language(name: object) -> str | None:
    """Finds a language by another spelling of its name, such as "C++", "Jupyter Notebook" or "Python".

    >>> find_language("C++"), find_language("Common Lisp"), find_language(None)
    ('cpp', 'common-lisp', None)
    """
    if not isinstance(name, str):
        return None
    plain = name.strip().lower().replace(" ", "-").replace("_", "-")
    plain = _SPELLINGS.get(plain, plain)
    return plain if plain in LANGUAGES else None
