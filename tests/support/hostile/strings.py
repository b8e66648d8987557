# SPDX-License-Identifier: Apache-2.0
"""Strings that programs trip over, by kind. The kinds are well known; the list is our own."""

from __future__ import annotations

NAUGHTY: dict[str, tuple[str, ...]] = {
    "empty and blank": ("", " ", "  x", "x  ", "\t", "\n", "\n\n", " \n ", "x\n", "\nx", "x\n\ny", "\u00a0", "\u3000x"),
    "controls": tuple(f"a{chr(code)}b" for code in (*range(1, 32), 127, *range(0x80, 0xA0))),
    "NUL": ("\0", "a\0b", "x\0"),
    "surrogates": ("\ud800", "a\udfffb", "\udc80", "\ud83d x \ude00"),
    "line breaks of Unicode": ("a\u0085b", "a\u2028b", "a\u2029b", "a\x0bb", "a\x0cb", "a\rb", "a\r\nb", "\r"),
    "byte order marks and noncharacters": ("\ufeff", "\ufeffx", "a\ufeffb", "a\ufffeb", "a\uffffb", "\U0010ffff", "\ufdd0"),
    "bidi": ("\u202eabc", "a\u202a\u202c", "\u2066x\u2069", "\u200fשלום", "العربية", "\u061cx"),
    "invisible": ("a\u200bb", "\u200d", "a\u00adb", "\u2060", "\ue000", "\U000e0001x", "\ufe0f"),
    "beyond ASCII": ("é", "e\u0301", "ß", "İstanbul", "日本語", "田中さん", "ﬃ", "Ω", "Z̡̧͎͓a̛͇lg̴̱o̷", "𝔘𝔫𝔦", "𝒳", "ǅ"),
    "emoji": ("👩‍🔬", "🏳️‍🌈", "👾", "🇺🇸", "1️⃣", "💩" * 40),
    "quotes": ("'", '"', "''", '""', "'\"'", "it's", 'say "x"', "'''", '"""', "\\'", '\\"', "“x”", "‘x’", "'a'b'", '"a"b"'),
    "backslashes": ("\\", "\\\\", "a\\", "\\n", "\\x00", "\\u202e", "\\U0001F600", "C:\\new\\table", "\\0", "\\N{BEL}"),
    "shell": (
        *("$(touch canary)", "`touch canary`", "; touch canary", "| touch canary", "& touch canary &", "&& touch canary"),
        *("\n touch canary\n", "$HOME", "${HOME}", "${x:-$(touch canary)}", "$((1+1))", "$'\\x41'", "!!", "!x", "a!b"),
        *("~", "~root", "~/x", "*", "?", "[a-z]*", "{a,b}", ">canary", "<x", ">>canary", "#x", "a #x", "-n", "--help", "-"),
        *("--", "x=y", "\\\ntouch canary", "'$(touch canary)'", "\"$(touch canary)\"", "'; touch canary; '", "$IFS", "%s%n"),
        *("$@", "$*", "$$", "$0", "a b  c", "<(touch canary)", "<<EOF\nx\nEOF", "coproc x", "(touch canary)", "[[ x ]]"),
    ),
    "Kubernetes expands": ("$(HOME)", "$$(HOME)", "$$$(X)", "a$", "$", "$$", "$$$", "$(", "$()", "$(A)$(B)", "$(mpikit)"),
    "templates": ("{{ 7*7 }}", "{{ job }}", "{% raw %}", "{# x #}", "{## x ##}", "${x}", "%(x)s", "{0}", "{user}", "{synapse}", "{}"),
    "YAML 1.1 takes for something else": (
        *("no", "yes", "on", "off", "y", "n", "Y", "N", "No", "TRUE", "true", "False", "null", "Null", "NULL", "~", "="),
        *("0600", "0o600", "0x1F", "0b11", "08", "1_000", "1:30", "190:20:30", "1e3", "1.5e3", "1E-3", "6e-2", "123e45"),
        *("1.10", "1.", ".5", "+1", "-0", "0", "1", "-1", ".inf", "-.INF", ".nan", ".NaN", "NaN", "Infinity", "1e999"),
        *("2024-01-01", "2024-01-01T00:00:00Z", "2001-12-14 21:59:43.10 -5", "<<", "9" * 30, "-" + "9" * 30, "1" * 5000),
    ),
    "YAML's own marks": (
        *("- x", "-", "? x", ": x", "x: y", "x:", ":x", "x #y", "# x", "&a x", "*a", "!x", "!!str x", "|", ">", "|-", "%TAG"),
        *("@x", "`x`", "{x", "[x", "x]", "x}", ",", "a, b", "---", "...", "--- x", "{a: b}", "[a, b]", "'x", '"x', "\ty", "x\ty"),
    ),
    "paths": ("/", "//", "/a//b", "/a/", "/a/..", "/../x", "/a/./b", "/a b", "/a:b", "/a,b", "../x", "./x", "/é", "/-x", "/\n"),
    "names": ("a", "-a", "a-", "A", "a.b", "a..b", "a_b", "a/b", "a" * 63, "a" * 64, "a" * 253, "a" * 254, "1a", "ß", "a\n"),
    "images": ("x:1", "x@sha256:0", "X", "x/y:z", "x:", ":x", "x y", "http://x", "x" * 300),
    "quantities": ("1", "1.5", "1Gi", "1gi", "1 Gi", "1e3", "1E", "-1", "+1", "0", "1m", "1.Gi", ".5Gi", "1n", "1Ei", "9" * 40, "9" * 40 + "Ei", "1e99", "٣"),
    "numbers of others": ("٣", "３", "Ⅷ", "1,000", "1 000", "½", "0.1e", "1__0", "inf", "nan", "1e400", "True", "0" * 500),
    "long": ("x" * 10_000, "é" * 10_000, " " * 10_000, "a: " * 3_000, "'" * 10_000, "\\" * 10_000, "x\n" * 5_000, "\u2028" * 5_000),
}  # fmt: skip

STRINGS: tuple[str, ...] = tuple(text for texts in NAUGHTY.values() for text in texts)

# What may stand after `key:` in a YAML text, in the manner of the YAML test suite; one kind of syntax each. The lines
# below the first are indented by whoever puts them in a file.
YAML_VALUES: tuple[str, ...] = (
    *("", "x", "'x'", '"x"', "'it''s'", '"\\x41\\u00e9\\U0001F600"', '"\\ud83d\\ude00"', '"\\0"', '"a\\\nb"', '"a\n  b"'),
    *("'a\n\n  b'", "a\n b\n c", "a\n # comment\n b", "|\n a\n b", "|-\n a\n", "|+\n a\n\n", ">\n a\n b\n\n c", ">-\n a\n  b"),
    *("|2\n   a", "|1-\n a", "|10\n a", ">#\n x", "| # comment\n x", "|\n\ta", "[]", "{}", "[a, b]", "[a, b,]", "[a, , b]"),
    *("[a b: c]", "[{a: b}]", "{a: b, c: [d]}", "{a, b}", "{a: , b}", "{? a : b}", "{'a': b}", '{"a":b}', "{a: b", "[a", "a]"),
    *("[[[[[[[[a]]]]]]]]", "- a", "\n- a\n- b", "\n- - a\n  - b", "\n  a: b\n  c: d", "\n? a\n: b", "\n? [a]\n: b", "\n? {a: b}\n: c"),
    *("&a x", "&a [x]", "&a", "*a", "&a *a", "&a {b: *a}", "!!str 1", "!!int x", "!!null x", "!local x", "!<tag:x,2000:y> x"),
    *("!!binary aGk=", "!!set {a}", "!!python/object/apply:os.system ['touch canary']", "!!python/name:os.system", "! x", "!!str"),
    *("\n  <<: {a: b}", "\n  <<: *a", "{<<: {a: b}}", "\n  a: 1\n  a: 2", "{a: 1, a: 2}", "{a: {b: 1, b: 2}}", "\n  'a': 1\n  a: 2"),
    *("x # comment", "x #", "#x", "'x' # y", "'x'y", '"x" y', "%x", "@x", "`x`", "-", "?", ":", "--- x", "\n---\nb: c", "\n...\nb: c"),
    *("\n...", "\n--- a", "\n%YAML 1.1\n---\na: b", "a: b", "a: b: c", "\n\ta: b", "\t x", "x\t# y", "x\r\ny: z", "\u00a0x", "\ufeffx"),
    *("~", "null", "no", "0600", "1e3", "1.10", "2024-01-01", ".inf", ".nan", "0x_", "0b", "1__0", "+", "1:60", "0o8", "<<", "="),
    *("[no, 0600, 1e3, ~]", "{no: yes}", "{1: a}", "{1.5: a}", "{null: a}", "{2024-01-01: a}", "{~: a}", "{[a]: b}", "{y: n}"),
    *("[" * 40 + "]" * 40, "{a: " * 40 + "b" + "}" * 40, "[" * 400, "\n" + "".join(" " * n + "- \n" for n in range(1, 60)), "- " * 60),
)  # fmt: skip
