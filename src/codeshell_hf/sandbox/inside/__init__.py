"""What runs inside the sandbox's lean process. It is started by its path, imports nothing of this package, no torch.

`zygote` answers requests and watches, `walls` isolates, `programs` becomes the program; `portable` stands for the first
two on systems that are not Linux. Forking from this small process costs two milliseconds; forking from one that holds
torch and a model costs fifty to hundreds.
"""

PROOF = "@PROOF@"
SECRET_BYTES = 16
KEPT_END = 4096
