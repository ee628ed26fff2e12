"""Identifies programming languages by file name, extension and shebang, under The Stack's names."""

import re
from pathlib import PurePath

from .ambiguous_languages import choose_language, is_ambiguous

# name: extensions, file names, interpreters
LANGUAGES: dict[str, tuple[str, str, str]] = {
    "actionscript": ("as", "", ""),
    "ada": ("adb ads", "", ""),
    "agda": ("agda", "", ""),
    "apex": ("trigger", "", ""),
    "applescript": ("applescript", "", "osascript"),
    "assembly": ("asm s", "", ""),
    "autohotkey": ("ahk", "", ""),
    "awk": ("awk", "", "awk gawk mawk"),
    "batchfile": ("bat cmd", "", ""),
    "bicep": ("bicep", "", ""),
    "c": ("c h", "", "tcc"),
    "c-sharp": ("cs csx", "", ""),
    "cairo": ("cairo", "", ""),
    "clojure": ("clj cljs cljc edn", "", ""),
    "cmake": ("cmake", "CMakeLists.txt", ""),
    "cobol": ("cob cbl cpy", "", ""),
    "coffeescript": ("coffee", "Cakefile", "coffee"),
    "common-lisp": ("lisp lsp cl asd", "", "sbcl clisp"),
    "coq": ("", "", ""),
    "cpp": ("cpp cc cxx c++ hpp hh hxx h++ ipp inl tpp ino", "", ""),
    "crystal": ("cr", "", "crystal"),
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
    "forth": ("fth 4th forth", "", ""),
    "fortran": ("f f77 f90 f95 f03 f08 for", "", ""),
    "gdscript": ("gd", "", ""),
    "git-commits": ("", "", ""),
    "github-issues": ("", "", ""),
    "glsl": ("glsl vert frag", "", ""),
    "go": ("go", "", ""),
    "graphql": ("graphql gql", "", ""),
    "groovy": ("groovy gradle", "Jenkinsfile", "groovy"),
    "handlebars": ("hbs handlebars mustache", "", ""),
    "haskell": ("hs lhs", "", "runhaskell runghc stack cabal"),
    "haxe": ("hx", "", ""),
    "hcl": ("tf tfvars hcl nomad", "", ""),
    "hlsl": ("hlsl fx fxh", "", ""),
    "html": ("html htm xhtml", "", ""),
    "idl": ("", "", ""),
    "idris": ("idr", "", ""),
    "ini": ("ini cfg properties editorconfig", ".editorconfig .gitconfig setup.cfg", ""),
    "java": ("java", "", ""),
    "java-server-pages": ("jsp jspx", "", ""),
    "javascript": ("js mjs cjs jsx", "Jakefile", "node nodejs bun zx"),
    "json": ("json jsonl geojson webmanifest", ".prettierrc .eslintrc composer.lock", ""),
    "jsonnet": ("jsonnet libsonnet", "", ""),
    "julia": ("jl", "", "julia"),
    "jupyter-notebook": ("ipynb", "", ""),
    "jupyter-scripts": ("", "", ""),
    "jupyter-structured": ("", "", ""),
    "just": ("just", "justfile Justfile .justfile", ""),
    "kotlin": ("kt kts", "", ""),
    "lean": ("lean", "", ""),
    "less": ("less", "", ""),
    "llvm": ("ll", "", ""),
    "lua": ("lua", "", "lua luajit"),
    "m4": ("m4 ac", "configure.ac configure.in", ""),
    "makefile": ("mk mak make am", "Makefile GNUmakefile makefile Kbuild Makefile.am Makefile.in", "make"),
    "markdown": ("md markdown mkd mdx", "", ""),
    "mathematica": ("nb wl mathematica", "", "wolframscript"),
    "matlab": ("matlab", "", ""),
    "meson": ("", "meson.build meson_options.txt", ""),
    "move": ("move", "", ""),
    "nim": ("nim nims nimble", "", ""),
    "nix": ("nix", "", "nix-shell"),
    "nsis": ("nsi nsh", "", ""),
    "objective-c": ("m mm", "", ""),
    "ocaml": ("ml mli", "", "ocaml"),
    "opencl": ("opencl", "", ""),
    "pascal": ("pas dpr lpr pp", "", ""),
    "perl": ("pl pm pod t", "", "perl"),
    "php": ("php phtml php3 php4 php5", "", "php php-cgi"),
    "powershell": ("ps1 psd1 psm1", "", "pwsh"),
    "prolog": ("pro prolog", "", "swipl"),
    "protocol-buffer": ("proto", "", ""),
    "pug": ("pug jade", "", ""),
    "puppet": ("", "", ""),
    "purescript": ("purs", "", ""),
    "python": ("py pyi pyw", "SConstruct wscript Snakefile", "python python2 python3 pypy pypy3 ipython uv pipx"),
    "qmake": ("pri prf", "", ""),
    "r": ("r rmd", ".Rprofile", "rscript"),
    "racket": ("rkt rktl scrbl", "", "racket"),
    "raku": ("raku rakumod p6 pm6", "", "raku perl6"),
    "reason": ("re rei", "", ""),
    "restructuredtext": ("rst", "", ""),
    "roff": ("man", "", ""),
    "ruby": ("rb rake gemspec ru", "Gemfile Rakefile Podfile Fastfile Vagrantfile Brewfile", "ruby jruby"),
    "rust": ("rs", "", ""),
    "sas": ("sas", "", ""),
    "scala": ("scala sbt sc", "", "scala"),
    "scheme": ("scm ss sld", "", "guile"),
    "scss": ("scss sass", "", ""),
    "shell": (
        "sh bash zsh ksh fish bats ebuild",
        ".bashrc .profile .zshrc configure",
        "sh bash zsh ksh dash fish busybox ash",
    ),
    "smalltalk": ("st", "", ""),
    "solidity": ("sol", "", ""),
    "sql": ("sql ddl", "", ""),
    "stack-exchange": ("", "", ""),
    "stan": ("stan", "", ""),
    "standard-ml": ("sml", "", ""),
    "starlark": ("bzl bazel star", "BUILD WORKSPACE", ""),
    "stylus": ("styl", "", ""),
    "supercollider": ("scd", "", ""),
    "svelte": ("svelte", "", ""),
    "swift": ("swift", "", "swift"),
    "systemverilog": ("sv svh", "", ""),
    "tcl": ("tcl tk", "", "tclsh wish"),
    "tex": ("tex sty cls bib", "", ""),
    "text": ("txt", "README LICENSE COPYING AUTHORS NEWS CHANGES", ""),
    "thrift": ("thrift", "", ""),
    "toml": ("toml", "", ""),
    "typescript": ("ts tsx mts cts", "", "deno ts-node tsx"),
    "vala": ("vala vapi", "", ""),
    "verilog": ("v vh", "", ""),
    "vhdl": ("vhd vhdl", "", ""),
    "vim-script": ("vim", ".vimrc _vimrc", ""),
    "visual-basic": ("vb vbs bas", "", ""),
    "vue": ("vue", "", ""),
    "vyper": ("vy", "", ""),
    "web-text": ("", "", ""),
    "webassembly": ("wat wast", "", ""),
    "wgsl": ("wgsl", "", ""),
    "xml": ("xml xsd xslt svg plist", "", ""),
    "xslt": ("xsl", "", ""),
    "yacc": ("y yy", "", ""),
    "yaml": ("yaml yml", "", ""),
    "zig": ("zig", "", ""),
}

_BY_EXTENSION = {ext: name for name, (exts, _, _) in LANGUAGES.items() for ext in exts.split()}
_BY_FILE_NAME = {file: name for name, (_, files, _) in LANGUAGES.items() for file in files.split()}
_BY_INTERPRETER = {word: name for name, (_, _, words) in LANGUAGES.items() for word in words.split()}
_WITH_VARIANTS = ("Dockerfile.", "Containerfile.", "Makefile.", "GNUmakefile.", "Jenkinsfile.")
# Behind the name of a variant: templates, patches, copies and lists of other kinds.
_OTHER_KINDS = frozenset((
    ".dockerignore", ".j2", ".jinja", ".jinja2", ".erb", ".ejs", ".gotmpl", ".tmpl", ".tpl", ".template", ".patch",
    ".diff", ".rej", ".orig", ".bak", ".old", ".swp",
))  # fmt: skip
_FIRST_BYTES = 256
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
    **dict.fromkeys(("sh", "shell-script", "zsh"), "shell"),
    "elisp": "emacs-lisp",
    "terraform": "hcl",
    "arduino": "cpp",
    "mdx": "markdown",
    "js": "javascript",
    "objective-c++": "objective-c",
    "protocol-buffers": "protocol-buffer",
}
_SHEBANG = re.compile(rb"(?:\xef\xbb\xbf)?#!\s*(\S+)([^\r\n]*)")
_ASSIGNMENT = re.compile(r"\w+=\S*$")
# What starts another program, which is named later in the line.
_STARTERS = frozenset(("env", "sudo", "nice", "time", "busybox"))
# What starts a program of a package, which options name in between.
_RUNNERS = frozenset(("poetry", "pipenv", "rye", "pdm", "hatch", "bundle", "npx", "uvx", "pnpm", "yarn"))
# Words and options of a runner before the program; the options have a value.
_SUBCOMMANDS = frozenset(("run", "exec", "dlx", "--"))
_WITH_VALUE = frozenset((
    "--from", "--with", "--with-editable", "--with-requirements", "--package", "--python", "--index", "--workspace",
    "--project", "--directory", "--dir", "--env", "--gemfile", "-p", "-w", "-C", "-P", "-e",
))  # fmt: skip
# Words of an editor's line that names the mode of a file.
_MODE = re.compile(rb"-\*-\s*(?:.*?\bmode:\s*)?([A-Za-z+#-]+)\s*(?:;.*)?-\*-|\bvim?:.*?\b(?:ft|filetype)=([a-z]+)")


def name_language(path: str) -> str | None:
    """Names the language of a file, a key of `LANGUAGES`, by the last part of its path.

    >>> name_language("src/main.rs"), name_language("Makefile"), name_language("LICENSES.xyz")
    ('rust', 'makefile', None)
    """
    file = PurePath(path)
    # Dockerfile.dev and Makefile.common are variants; README.old may be anything.
    is_variant = file.name.startswith(_WITH_VARIANTS) and file.suffix.lower() not in _OTHER_KINDS
    variant = file.name.partition(".")[0] if is_variant else ""
    return _BY_FILE_NAME.get(file.name) or _BY_EXTENSION.get(file.suffix[1:].lower()) or _BY_FILE_NAME.get(variant)


def name_language_by_shebang(start: bytes) -> str | None:
    """Names the language of a script by the shebang, or an editor's mode line, in its first bytes.

    >>> name_language_by_shebang(b"#!/usr/bin/env -S LC_ALL=C python3.12 -u")
    'python'
    """
    found = _SHEBANG.match(start)
    if found is not None:
        words = [found[1].decode("latin-1"), *found[2].decode("latin-1").split()]
        is_in_package = False
        rest = iter(words)
        for word in rest:
            if is_in_package and word in _WITH_VALUE:
                next(rest, None)
                continue
            if word.startswith("-") or _ASSIGNMENT.match(word) or word in _SUBCOMMANDS:
                continue
            name = word.rpartition("/")[2].partition("@")[0].lower()
            if name in _STARTERS:
                continue
            if name in _RUNNERS:
                is_in_package = True
                continue
            language = _BY_INTERPRETER.get(name) or _BY_INTERPRETER.get(name.rstrip("0123456789."))
            return language or _find_mode(start)
    return _find_mode(start)


def _find_mode(start: bytes) -> str | None:
    found = _MODE.search(start)
    return find_language((found[1] or found[2]).decode("latin-1")) if found is not None else None


def refine_language(path: str, language: str | None, content: bytes) -> str | None:
    """The language of a file, decided by its content where languages share its extension.

    Args:
        path: Of the file.
        language: What its name or its source says; another than the extension's first stays.
        content: As UTF-8.

    Returns:
        A key of `LANGUAGES`; `None` if the content is of none of them.
    """
    extension = PurePath(path).suffix[1:].lower()
    if not is_ambiguous(extension) or language != name_language(path):
        return language or name_language_by_shebang(content[:_FIRST_BYTES])
    return choose_language(extension, content)


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
