"""Mutations of the sandbox."""

from tests.mutations import Mutation

SANDBOX = "src/codeshell_hf/sandbox"
HOSTILE = "tests/sandbox/test_hostile.py"
FORGERIES = "tests/sandbox/test_forgeries.py"
BORDER = "tests/sandbox/inside/test_border.py"
MUTATIONS = (
    Mutation(
        f"{SANDBOX}/inside/isolation.py",
        'call("unshare", CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)',
        'call("unshare", CLONE_NEWUSER | CLONE_NEWIPC | CLONE_NEWUTS)',
        "tests/sandbox/inside/test_isolation.py", "programs of root share the network of the machine",
    ),
    Mutation(
        f"{SANDBOX}/inside/system_calls.py", "socket 41 198, ", "",
        "tests/sandbox/inside/test_isolation.py", "sockets are on no list",
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
        f"{SANDBOX}/inside/isolation.py", "flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | signal.SIGCHLD",
        "flags = CLONE_NEWNS | CLONE_NEWIPC | signal.SIGCHLD",
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
        f"{SANDBOX}/inside/border.py", "            if self.is_of_tests and parts[0] not in PLAIN_TYPES:\n",
        "            if not parts[0]:\n", FORGERIES, "a program gives eval to its tests",
    ),
    Mutation(
        f"{SANDBOX}/inside/border.py", "            return self.lent[check_number(parts[0])]",
        "            return self.lent[parts[0]]",
        f"{BORDER}::test_nothing_else_is_rebuilt", "any number names an object",
    ),
    Mutation(
        f"{SANDBOX}/inside/border.py", "            thing = self.lent[check_number(number)]\n",
        "            thing = self.unpack(number)\n", f"{BORDER}::test_a_program_cannot_call_what_no_test_gave_it",
        "a program calls functions of Python in the process of its tests",
    ),
    Mutation(
        f"{SANDBOX}/inside/border.py", "                return self.pack(copy(value), depth)\n",
        "                return self._pack_object(value)\n", f"{BORDER}::test_a_subclass_arrives_as_its_plain_type",
        "a named tuple is not a plain value",
    ),
    Mutation(
        f"{SANDBOX}/inside/strict.py", "        for descriptor in (*hidden, calls[1], replies[0]):",
        "        for descriptor in (calls[1], replies[0]):",
        "tests/sandbox/inside/test_programs.py", "a program whose tests run apart can reach the verdict",
    ),
    Mutation(
        f"{SANDBOX}/inside/strict.py", "    calls, replies, describe_end = start()\n    tests = read_tests()\n",
        "    tests = read_tests()\n    calls, replies, describe_end = start()\n",
        f"{FORGERIES}::test_a_program_that_reads_its_own_memory_finds_no_byte_of_the_tests",
        "a program is forked from a process that has read its tests",
    ),
    Mutation(
        f"{SANDBOX}/inside/zygote.py", "            move_unread(requests, sealed, rest)\n",
        "            kept = read_exactly(requests, rest)\n            os.write(sealed, kept)\n",
        f"{FORGERIES}::test_only_the_process_of_the_tests_holds_a_byte_of_them", "a worker process reads the tests",
    ),
    Mutation(
        f"{SANDBOX}/limits.py", "    strict: bool = True\n", "    strict: bool = False\n",
        FORGERIES, "tests share an interpreter with the program by default",
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
    Mutation(
        "src/codeshell_hf/sandbox/inside/zygote.py", "if measure_tree(child) > most:",
        "if measure_tree(child) > 64 * most:",
        "tests/sandbox/test_pool.py", "all processes together may hold 64 times the memory",
    ),
    Mutation(
        "src/codeshell_hf/sandbox/inside/isolation.py", "action = actions.get(number, missing)",
        "action = actions.get(number, allow)",
        "tests/sandbox/inside/test_system_calls.py", "calls of later kernels are open to programs",
    ),
    Mutation(
        "src/codeshell_hf/sandbox/inside/isolation.py", "(jump_set, 0, 1, NEW_NAMESPACES),",
        "(jump_set, 1, 0, NEW_NAMESPACES),",
        "tests/sandbox/inside/test_system_calls.py", "programs make namespaces, and no threads",
    ),
    Mutation(
        "src/codeshell_hf/sandbox/inside/system_calls.py", "memfd_create 319 279, ",
        "memfd_create 318 279, ",
        "tests/sandbox/inside/test_system_calls.py", "a number is another call's",
    ),
    Mutation(
        "src/codeshell_hf/sandbox/inside/judge.py",
        "if not any(RULES[rule](output, expected) for expected in accepted):",
        "if not output:",
        "tests/sandbox/inside/test_judge.py", "any output of a judged program is right",
    ),
    Mutation(
        "src/codeshell_hf/sandbox/inside/outputs.py", "[Decimal(word) for word in line.split()] ==",
        "[float(word) for word in line.split()] ==",
        "tests/sandbox/inside/test_outputs.py", "large numbers are compared as floats",
    ),
)  # fmt: skip
