"""Mutations of the sandbox."""

from tests.mutations import Mutation

SANDBOX = "src/codeshell_hf/sandbox"
HOSTILE = "tests/sandbox/test_hostile.py"
MUTATIONS = (
    Mutation(
        f"{SANDBOX}/inside/isolation.py",
        'call("unshare", CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)',
        'call("unshare", CLONE_NEWUSER | CLONE_NEWIPC | CLONE_NEWUTS)',
        "tests/sandbox/inside/test_isolation.py", "programs of root share the network of the machine",
    ),
    Mutation(
        f"{SANDBOX}/inside/isolation.py", "*(41, 42, 43, 49, 50, 288),", "*(),",
        "tests/sandbox/inside/test_isolation.py", "sockets are allowed on x86-64",
    ),
    Mutation(
        f"{SANDBOX}/inside/isolation.py", "        (resource.RLIMIT_AS, limits[\"max_memory_bytes\"]),\n", "",
        "tests/sandbox/test_pool.py", "no limit on memory",
    ),
    Mutation(
        f"{SANDBOX}/inside/isolation.py", "            make_read_only(root + path)\n", "",
        "tests/sandbox/inside/test_isolation.py", "programs write to folders that they may read",
    ),
    Mutation(
        f"{SANDBOX}/inside/zygote.py", 'call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC)',
        'call("unshare", CLONE_NEWNS | CLONE_NEWIPC)',
        HOSTILE, "programs see the processes of others and outlive their time",
    ),
    Mutation(
        f"{SANDBOX}/inside/zygote.py", '    deadline = started + limits["timeout_s"]', "    deadline = started + 9.0",
        "tests/sandbox/test_pool.py::test_verdicts_say_what_became_of_a_program", "the time limit does not hold",
    ),
    Mutation(
        f"{SANDBOX}/inside/messages.py", "if is_proven and exit_code == 0:", "if exit_code == 0:",
        "tests/sandbox/test_pool.py", "exiting early passes",
    ),
    Mutation(
        f"{SANDBOX}/inside/programs.py", "        if (module, name) not in PLAIN_TYPES:\n", "        if not module:\n",
        "tests/sandbox/inside/test_programs.py", "a reply of a program runs code in the process of its tests",
    ),
    Mutation(
        f"{SANDBOX}/inside/programs.py", "            for descriptor in (question, answer, calls[1], replies[0]):",
        "            for descriptor in (calls[1], replies[0]):",
        "tests/sandbox/inside/test_programs.py", "a program whose tests run apart can reach the verdict",
    ),
    Mutation(
        f"{SANDBOX}/backends.py", "        if not leaks:\n            return sandbox\n", "        return sandbox\n",
        "tests/sandbox/test_backends.py", "a backend is taken though a program escapes",
    ),
    Mutation(
        f"{SANDBOX}/pool.py", '"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}',
        '"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **os.environ}',
        HOSTILE, "programs see the environment of the caller",
    ),
    Mutation(
        f"{SANDBOX}/pool.py", '            if "trouble" not in reply:', "            if True:",
        "tests/sandbox/test_pool.py", "a failure of the sandbox is a verdict on the program",
    ),
)  # fmt: skip
