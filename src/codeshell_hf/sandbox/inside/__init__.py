"""What runs inside the sandbox's lean process. It is started by its path, imports nothing of this package, no torch.

`zygote` answers requests and watches, `walls` isolates, `programs` becomes the program. Forking from this small process
costs two milliseconds; forking from one that holds torch and a model costs fifty to hundreds.
"""

PROOF = "@PROOF@"
