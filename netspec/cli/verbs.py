"""A group of verbs, each in a module that is imported when its verb is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from netspec.diagnostics import printable, suggest


class Verbs(click.Group):
    """Imports a verb's module when it is wanted: `check` must not wait for `train`."""

    def __init__(self, *, modules: str = "", verbs: Mapping[str, str] | None = None, **said: Any):
        """`modules` is where the verb `{verb}` is, as `command`; `verbs` says what each does.

        A module's name has `_` where the verb has `-`.
        """
        super().__init__(**said)
        self._modules = modules
        self._verbs = dict(verbs or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        command = import_module(self._modules.format(verb=cmd_name.replace("-", "_"))).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in self._verbs and not word.startswith("-"):
            ctx.fail(f"there is no verb `{printable(word)}`{suggest(word, self._verbs)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._verbs:
            with formatter.section("Verbs"):
                formatter.write_dl(list(self._verbs.items()))
