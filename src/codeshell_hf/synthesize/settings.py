"""Settings of synthesis: seeds, what is asked, the budget, and the checks."""

from typing import Literal

from pydantic import Field, model_validator

from ..settings import Section

WrittenIn = Literal["en", "zh"]
AnswersAs = Literal["given", "fenced", "bare"]


class SeedSettings(Section):
    """Which snippets of the curated training split are drawn."""

    count: int = Field(default=1000, gt=0, description="how many")
    languages: tuple[str, ...] = Field(
        default=("python",), min_length=1, description="programming languages; answers are in Python all the same"
    )
    min_quality: float | None = Field(
        default=None, description="lowest quality of the document; null takes documents without a score, too"
    )
    needs_docstring: bool = Field(default=False, description="only Python functions and classes with a docstring")
    min_lines: int = Field(default=4, gt=0, description="shorter snippets are not drawn")
    max_lines: int = Field(default=60, gt=0, description="longer functions are not drawn; of other text, so many lines")
    max_characters: int = Field(default=4000, gt=0, description="longer snippets are not drawn")
    per_document: int = Field(default=1, gt=0, description="snippets of one document at most")

    @model_validator(mode="after")
    def _check_lines(self) -> "SeedSettings":
        if self.min_lines > self.max_lines:
            raise ValueError(
                f"seeds.min_lines is {self.min_lines}, above max_lines, {self.max_lines}; lower it or raise max_lines"
            )
        return self


class AskSettings(Section):
    """What is asked of the model, and how it is sampled."""

    written_in: tuple[WrittenIn, ...] = Field(
        default=("en", "zh"), min_length=1, description="languages of the problems; seeds are dealt to them in turn"
    )
    max_new_tokens: int = Field(default=2048, gt=0, description="longest reply; a cut one is dropped as truncated")
    temperature: float = Field(default=0.8, ge=0, description="of the problems")
    answers: int = Field(
        default=0, ge=0, description="further answers to each kept problem, for pairs and for how hard it is"
    )
    answer_tokens: int = Field(default=1024, gt=0, description="longest further answer")
    answer_temperature: float = Field(default=1.0, ge=0, description="of further answers")
    batch_size: int = Field(default=16, gt=0, description="replies at a time of a model in a folder")
    concurrency: int = Field(default=16, gt=0, description="requests at a time to a server")
    max_failures: int = Field(
        default=0,
        ge=0,
        description="requests that a server may leave without a reply, after all tries, before the run ends",
    )


class BudgetSettings(Section):
    """What all runs of one output may spend together; replies that are kept count, too."""

    max_requests: int = Field(default=10_000, gt=0, description="requests for problems and for further answers")
    max_tokens: int | None = Field(
        default=None, gt=0, description="tokens of prompts and replies; requests under way are still read"
    )

    def describe(self, seeds: int, answers: int) -> list[str]:
        """How much is asked at most after so many seeds, with further answers or none."""
        most = min(seeds * (1 + (answers > 0)), self.max_requests)
        tokens = "" if self.max_tokens is None else f" or {self.max_tokens:,} tokens"
        return [
            f"asks for a task after each of {seeds:,} seeds at most",
            f"spends at most {most:,} requests{tokens}, with those of earlier runs of this output",
        ]


class CheckSettings(Section):
    """What a task has to pass."""

    repeats: int = Field(default=3, gt=0, description="runs, each by new processes, that must agree")
    max_seconds: float = Field(default=2.0, gt=0, description="a slower run of the tests is too slow")
    max_mutants: int = Field(default=12, gt=0, description="faulty versions of the answer that the tests are tried on")
    min_killed: float = Field(default=0.5, gt=0, le=1, description="share of them that must fail the tests")
    min_asserts: int = Field(default=2, gt=0, description="assertions in the tests")
    min_problem_characters: int = Field(default=20, gt=0, description="shorter problems are dropped")
    max_problem_characters: int = Field(default=4000, gt=0, description="longer problems are dropped")
    max_answer_lines: int = Field(default=200, gt=0, description="longer answers are dropped")
    max_seed_overlap: float = Field(
        default=0.8, gt=0, le=1, description="share of an answer's six-word sequences that its seed may have"
    )
    min_pass_rate: float = Field(
        default=0.0, ge=0, le=1, description="share of further answers that must pass, else a task is unsolved"
    )
