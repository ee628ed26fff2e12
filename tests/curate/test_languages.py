"""Languages are named by file name, by first line, and as other tables spell them."""

from collections import Counter

import pytest

from codeshell_hf.curate.languages import (
    LANGUAGES,
    find_language,
    name_language,
    name_language_by_shebang,
    refine_language,
)

TABLE_1 = (
    "markdown python java javascript php cpp c c-sharp go rust ruby kotlin swift typescript scala lua julia "
    "github-issues html git-commits shell perl css assembly powershell json r sql dart jupyter-scripts "
    "jupyter-structured tex restructuredtext haskell ada yaml common-lisp pascal makefile java-server-pages ocaml "
    "fortran visual-basic mathematica erlang vhdl elixir groovy smalltalk dockerfile"
)


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("x.PYI", "python"),
        ("x.hpp", "cpp"),
        ("x.h", "c"),
        ("Makefile", "makefile"),
        ("a/Dockerfile", "dockerfile"),
        ("CMakeLists.txt", "cmake"),
        ("notes.txt", "text"),
        ("x.jl", "julia"),
        ("x.rkt", "racket"),
        ("x.unknown", None),
        ("noextension", None),
        ("blink.ino", "cpp"),
        ("page.mdx", "markdown"),
        ("default.nix", "nix"),
        ("main.tf", "hcl"),
        ("src/Makefile.am", "makefile"),
        ("configure.ac", "m4"),
        ("deploy/Dockerfile.dev", "dockerfile"),
        ("Makefile.common", "makefile"),
        ("Dockerfile.dockerignore", None),
        ("Dockerfile.j2", None),
        ("Dockerfile.prod.TMPL", None),
        ("Makefile.orig", None),
        ("README.old", None),
    ],
)
def test_languages_are_named_by_file_name(path: str, language: str | None) -> None:
    assert name_language(path) == language


@pytest.mark.parametrize(
    ("line", "language"),
    [
        (b"#!/usr/bin/env python3\n", "python"),
        (b"#!/bin/bash -e\n", "shell"),
        (b"#! /usr/bin/perl\n", "perl"),
        (b"#!/usr/bin/env -S node\n", "javascript"),
        (b"#!/opt/strange\n", None),
        (b"#!/usr/bin/env LC_ALL=C python\n", "python"),
        (b"#!/usr/bin/env -S PYTHONPATH=. python3.12 -u\n", "python"),
        (b"#!/usr/bin/env -S uv run --script\n", "python"),
        (b"#!/usr/bin/env stack\n-- stack runghc\n", "haskell"),
        (b"#!/usr/bin/env -S deno run --allow-net\n", "typescript"),
        (b"#!/usr/bin/env -S uvx --from httpie python\n", "python"),
        (b"#!/usr/bin/env -S uvx --with node tool.py\n", None),
        (b"#!/usr/bin/env -S uvx --with=node -p 3.12 python@3.12 -u\n", "python"),
        (b"#!/usr/bin/env -S npx zx --shell bash\n", "javascript"),
        (b"#!/usr/bin/env -S npx strange --shell bash\n", None),
        (b"#!/usr/bin/env -S npx -p typescript ts-node\n", "typescript"),
        (b"#!/usr/bin/env -S pnpm --dir node dlx tsx@4\n", "typescript"),
        (b"#!/usr/bin/env -S poetry run python\n", "python"),
        (b"#!/usr/bin/env -S bundle exec ruby\n", "ruby"),
        (b"#!/usr/bin/env strange python\n", None),
        (b"#!/usr/bin/env bun\r\n", "javascript"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "shell"),
        (b"#!/usr/bin/busybox sh\n", "shell"),
        (b"#!/usr/local/bin/lua5.3\n", "lua"),
        (b"/* -*- mode: c++ -*- */\n", "cpp"),
        (b"# vim: set ft=ruby :\n", "ruby"),
        (b"\x7fELF", None),
    ],
)
def test_scripts_are_named_by_their_first_line(line: bytes, language: str | None) -> None:
    assert name_language_by_shebang(line) == language


def test_all_languages_of_the_reports_table_are_known_and_no_extension_names_two() -> None:
    extensions = Counter(extension for row in LANGUAGES.values() for extension in row[0].split())

    assert [extension for extension, count in extensions.items() if count > 1] == []
    assert [name for name in TABLE_1.split() if name not in LANGUAGES] == []
    assert [find_language(name) for name in ("C++", "Jupyter Notebook", "Visual Basic")] == [
        *("cpp", "jupyter-notebook", "visual-basic")
    ]


# By extension and language, files in the manner of each, written for this test.
SAMPLES: dict[tuple[str, str], tuple[str, ...]] = {
    ("h", "c"): (
        "#ifndef LIST_H\n#define LIST_H\n#include <stddef.h>\nstruct list { struct list *next; void *item; };\n"
        "struct list *list_push(struct list *head, void *item);\n#endif\n",
        "#pragma once\n#ifdef __cplusplus\nextern \"C\" {\n#endif\ntypedef enum { RED, BLUE } color_t;\nint paint(color_t c);\n"
        "#ifdef __cplusplus\n}\n#endif\n",
    ),
    ("h", "cpp"): (
        "#pragma once\n#include <vector>\nnamespace shop {\nclass Cart {\n public:\n  void add(const Item& item);\n"
        " private:\n  std::vector<Item> items_;\n};\n}\n",
        "template <typename T>\nstruct Node { T value; Node* next = nullptr; };\n",
    ),
    ("h", "objective-c"): (
        "#import <Foundation/Foundation.h>\n@interface Cart : NSObject\n@property (nonatomic, strong) NSArray *items;\n"
        "- (void)addItem:(NSString *)name;\n@end\n",
    ),
    ("m", "objective-c"): (
        "#import \"Cart.h\"\n@implementation Cart\n- (void)addItem:(NSString *)name {\n    [self.items addObject:name];\n}\n@end\n",
    ),
    ("m", "matlab"): (
        "function total = add_up(values)\n% ADD_UP  Sum of values.\ntotal = 0;\nfor k = 1:numel(values)\n    total = total + values(k);\nend\n",
        "x = linspace(0, 1, 100);\ny = x.^2;\nplot(x, y);\nxlabel('x');\n",
    ),
    ("pl", "perl"): ("use strict;\nmy %seen;\nwhile (<STDIN>) {\n    chomp;\n    print \"$_\\n\" unless $seen{$_}++;\n}\n",),
    ("pl", "prolog"): (
        ":- module(family, [ancestor/2]).\nancestor(X, Y) :- parent(X, Y).\nancestor(X, Y) :-\n    parent(X, Z),\n    ancestor(Z, Y).\n",
        "parent(tom, bob).\nparent(bob, ann).\n?- parent(X, ann).\n",
    ),
    ("v", "verilog"): ("module counter(input clk, output reg [3:0] q);\nalways @(posedge clk) q <= q + 4'd1;\nendmodule\n",),
    ("v", "coq"): (
        "Require Import Arith.\nTheorem plus_zero : forall n, n + 0 = n.\nProof.\n  induction n; simpl; auto.\nQed.\n",
    ),
    ("cl", "common-lisp"): ("(in-package :shop)\n(defun total (items)\n  (reduce #'+ items))\n",),
    ("cl", "opencl"): (
        "__kernel void add(__global const float *a, __global float *b) {\n  int i = get_global_id(0);\n  b[i] += a[i];\n}\n",
    ),
    ("pp", "pascal"): ("program Hello;\nvar\n  i: integer;\nbegin\n  for i := 1 to 3 do\n    writeln('hi');\nend.\n",),
    ("pp", "puppet"): (
        "class ntp($servers = undef) {\n  package { 'ntp':\n    ensure => installed,\n  }\n  service { 'ntp': ensure => running }\n}\n",
    ),
    ("pro", "qmake"): ("QT += core gui\nTARGET = shop\nSOURCES += main.cpp \\\n    cart.cpp\nHEADERS += cart.h\n",),
    ("pro", "idl"): ("pro show, image, TITLE=title\n; shows an image\n  if n_elements(title) eq 0 then title = ''\n  tvscl, image\nend\n",),
    ("pro", "prolog"): ("member(X, [X|_]).\nmember(X, [_|T]) :- member(X, T).\n:- initialization(main).\n",),
    ("cls", "tex"): ("\\NeedsTeXFormat{LaTeX2e}\n\\ProvidesClass{letterhead}\n\\LoadClass{article}\n",),
    ("cls", "visual-basic"): ("VERSION 1.0 CLASS\nBEGIN\nEND\nAttribute VB_Name = \"Cart\"\nPublic Sub Add(ByVal Item As String)\nEnd Sub\n",),
    ("cls", "apex"): (
        "public with sharing class CartService {\n  public static List<Cart__c> read() {\n    return [SELECT Id FROM Cart__c];\n  }\n}\n",
    ),
    ("ts", "typescript"): ("import { Cart } from './cart';\nexport const total = (cart: Cart): number => cart.items.length;\n",),
    ("ts", "xml"): ("<?xml version=\"1.0\"?>\n<!DOCTYPE TS>\n<TS version=\"2.1\"><context></context></TS>\n",),
    ("fs", "f-sharp"): ("module Cart\nlet total items = items |> List.sumBy (fun i -> i.Price)\n",),
    ("fs", "glsl"): ("#version 330 core\nin vec2 uv;\nout vec4 color;\nvoid main() { color = vec4(uv, 0.0, 1.0); }\n",),
}  # fmt: skip


@pytest.mark.parametrize(("extension", "language"), SAMPLES)
def test_languages_that_share_an_extension_are_told_by_content(extension: str, language: str) -> None:
    path = f"src/a.{extension}"

    found = [refine_language(path, name_language(path), text.encode()) for text in SAMPLES[extension, language]]

    assert found == [language] * len(found)
    assert language in LANGUAGES


def test_a_language_that_a_table_names_stays() -> None:
    assert refine_language("a.h", "cuda", b"class A {};\n") == "cuda"
    assert refine_language("run", None, b"#!/usr/bin/env python3\n") == "python"
    assert refine_language("run", None, b"text") is None


def test_the_files_of_this_systems_languages_keep_theirs() -> None:
    """Modules of Perl and headers of Python, whose languages are known from their packages."""
    import sysconfig
    from pathlib import Path

    headers = sorted(Path(sysconfig.get_path("include")).rglob("*.h"))[:200]
    found = Counter(refine_language(file.name, "c", file.read_bytes()) for file in headers)

    assert found["c"] >= 0.95 * len(headers), found


# Files of many kinds, with the language that their authors would name.
FILES: list[tuple[str, bytes, str]] = [
    ("src/util.h", b"#ifndef U_H\n#define U_H\nusing std::string;\nstring trim(const string &s);\n#endif\n", "cpp"),
    (
        "inc/dev.h",
        b"#define REG_CTRL 0x10\nstatic inline void dev_reset(volatile uint32_t *base) { base[4] = 1; }\n",
        "c",
    ),
    ("lib/Foo.pm", b"package Foo;\nuse strict;\nsub new { my ($c) = @_; return bless {}, $c; }\n1;\n", "perl"),
    ("t/basic.t", b"use Test::More tests => 1;\nok(1, 'works');\n", "perl"),
    ("run", b"#!/usr/bin/env -S uvx --from httpie python\nprint(1)\n", "python"),
    ("tool", b"#!/usr/bin/env -S npx tsx\nconst a: number = 1;\n", "typescript"),
    ("build.gradle.kts", b'plugins { kotlin("jvm") version "1.9" }\n', "kotlin"),
    ("Jenkinsfile", b"pipeline { agent any }\n", "groovy"),
    ("solve.m", b"A = [1 2; 3 4];\nb = A \\ [1; 2];\ndisp(b)\n", "matlab"),
    ("View.m", b"@implementation View\n- (id)init { return [super init]; }\n@end\n", "objective-c"),
    ("site.pp", b"node 'web1' {\n  include nginx\n  file { '/etc/motd': content => 'hi' }\n}\n", "puppet"),
    (
        "alu.v",
        b"`timescale 1ns/1ps\nmodule alu(input [7:0] a, b, output [7:0] y);\nassign y = a + b;\nendmodule\n",
        "verilog",
    ),
    (
        "Lists.v",
        b"Inductive natlist : Type :=\n| nil : natlist\n| cons : nat -> natlist -> natlist.\nFixpoint len (l : natlist) : nat := match l with nil => 0 | cons _ t => S (len t) end.\n",
        "coq",
    ),
    (
        "app_zh.ts",
        b'<!DOCTYPE TS>\n<TS version="2.1" language="zh_CN">\n<context><name>Main</name></context></TS>\n',
        "xml",
    ),
    ("kernel.cl", b"kernel void scale(global float* x, const float a) { x[get_global_id(0)] *= a; }\n", "opencl"),
    ("core.lisp", b"(defmacro when-let ((v e) &body b) `(let ((,v ,e)) (when ,v ,@b)))\n", "common-lisp"),
    ("bin/x", b"#!/usr/bin/awk -f\n{ print $1 }\n", "awk"),
    ("Dockerfile.dev", b"FROM python:3.12\nRUN pip install uv\n", "dockerfile"),
    (
        "main.mm",
        b"#import <Cocoa/Cocoa.h>\nint main() { std::vector<int> v; return NSApplicationMain(0, 0); }\n",
        "objective-c",
    ),
    ("vec.fs", b"#version 300 es\nprecision highp float;\nvoid main() {}\n", "glsl"),
]


@pytest.mark.parametrize(("path", "content", "language"), FILES)
def test_files_are_named_by_path_and_content(path: str, content: bytes, language: str) -> None:
    assert refine_language(path, name_language(path), content) == language
