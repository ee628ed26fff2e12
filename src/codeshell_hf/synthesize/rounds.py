"""The two rounds of requests: tasks after seeds, and further answers to the tasks that are left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from ..sandbox import Program, Sandbox
from ..text.client import Client
from ..text.code import extract_code, list_wanted
from ..text.replies import Reply
from .asking import ModelReplies, ModelRequest, ReplyStore, ask_server, make_request
from .reply_parts import CUT
from .requests import SeedRequest
from .settings import AskSettings
from .task_pool import AskedTask
from .task_rules import SynthesizedTask


@dataclass(frozen=True)
class Asker:
    """A model that is asked.

    Args:
        origin: The model, as far as replies depend on it.
        store: Keeps replies, and counts what they cost.
        send: Has the missing ones answered into the store; it gets a function to call for each that is done.
    """

    origin: str
    store: ReplyStore
    send: Callable[[Sequence[ModelRequest], Callable[[], object]], None]

    def ask(self, requests: Sequence[ModelRequest], title: str) -> list[ModelReplies]:
        """The replies to requests, those that are kept and those that the budget allows."""
        if missing := self.store.choose(requests):
            with tqdm(total=len(missing), desc=title, unit="request", disable=None) as bar:
                self.send(requests, bar.update)
        return self.store.read_all(requests)


def make_server_asker(client: Client, store: ReplyStore, *, max_failures: int) -> Asker:
    """A server that is asked."""

    def send(requests: Sequence[ModelRequest], on_progress: Callable[[], object]) -> None:
        ask_server(client, requests, store, on_progress, max_failures=max_failures)

    return Asker(client.model, store, send)


def ask_for_tasks(wanted: Sequence[SeedRequest], asker: Asker, ask: AskSettings, *, seed: int) -> list[AskedTask]:
    """Asks for a task after each seed."""
    requests = [
        make_request(
            one.messages, asker.origin, seed=seed, max_new_tokens=ask.max_new_tokens, temperature=ask.temperature
        )
        for one in wanted
    ]
    return [
        AskedTask(
            f"{one.seed.id} {one.written_in}",
            one.seed.id,
            one.seed.licence,
            one.written_in,
            one.seed.text,
            found.replies[0] if found.replies else None,
            found.reason,
        )
        for one, found in zip(wanted, asker.ask(requests, "ask for tasks"), strict=True)
    ]


def ask_for_answers(
    tasks: Sequence[SynthesizedTask], asker: Asker, ask: AskSettings, *, seed: int
) -> list[tuple[Reply, ...]]:
    """Asks for further answers to each task, as a user would; none where the budget is spent."""
    requests = [
        make_request(
            [{"role": "user", "content": task.problem}], asker.origin, seed=seed, max_new_tokens=ask.answer_tokens,
            temperature=ask.answer_temperature, samples=ask.answers,
        )
        for task in tasks
    ]  # fmt: skip
    return [found.replies for found in asker.ask(requests, "ask for answers")]


def gather_answers(
    tasks: Sequence[SynthesizedTask],
    recorded: Mapping[str, Sequence[Reply]],
    asker: Asker | None,
    ask: AskSettings,
    *,
    seed: int,
) -> list[Sequence[Reply]]:
    """The further answers to each task: those that were recorded with it, or else those that are asked for."""
    ours = [task for task in tasks if task.id not in recorded] if asker is not None and ask.answers else []
    asked = ask_for_answers(ours, asker, ask, seed=seed) if asker is not None and ours else []
    found = dict(zip((task.id for task in ours), asked, strict=True))
    return [found.get(task.id, recorded.get(task.id, ())) for task in tasks]


def run_answers(
    tasks: Sequence[SynthesizedTask], answers: Sequence[Sequence[Reply]], sandbox: Sandbox
) -> list[list[bool]]:
    """Whether each further answer is finished and passes its task's tests."""
    programs = [
        Program(extract_code(reply.text, list_wanted(task.tests)), task.tests)
        for task, own in zip(tasks, answers, strict=True)
        for reply in own
    ]
    with tqdm(total=len(programs), desc="run answers", unit="program", disable=None) as bar:
        verdicts = iter(sandbox.run(programs, on_progress=bar.update))
    return [[next(verdicts).passed and reply.finish_reason not in CUT for reply in own] for own in answers]
