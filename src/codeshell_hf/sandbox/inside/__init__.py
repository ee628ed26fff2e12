"""The code of the sandbox's worker processes. It is started by path, and imports nothing else of this package.

`zygote` serves requests and supervises programs, `isolation` isolates them, `programs` becomes the program, `strict`
and `border` keep it from its tests; on systems other than Linux, `portable` replaces the first two. Forking this small
process takes 2 ms, forking one with torch and a model 50 ms or more. In a container it runs on Python 3.9 or later.
"""

PROOF = "@PROOF@"
SECRET_BYTES = 16
TAIL_BYTES = 4096
