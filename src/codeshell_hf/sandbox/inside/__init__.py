"""What runs inside the sandbox's worker processes. It is started by its path, and imports nothing of this package.

`zygote` serves requests and watches programs, `isolation` isolates them, `programs` becomes the program; `portable`
stands for the first two on systems other than Linux. Forking from this small process takes two milliseconds; forking
from one that holds torch and a model takes fifty to hundreds. In a container it runs on Python 3.9 or later.
"""

PROOF = "@PROOF@"
SECRET_BYTES = 16
TAIL_BYTES = 4096
