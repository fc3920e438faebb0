"""The help of the command line: options and commands in groups, as wide as the terminal.

It is loaded before the command is known, so it imports nothing else of ours.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from typer import Typer
from typer.core import TyperCommand, TyperGroup

FEATURES, HEADS, START = "Features", "Heads", "Getting started"
"""Groups of commands in the help."""
GROUPS = {
    "Data and runs": "dataset split column images folder source predictions annotations questions"
    " limit cache run out name url to image question train_split val_split val_fraction metric",
    "Encoders": "vision_model vision_revision vision_layer text_model text_revision text_layer"
    " compute_dtype quantize image_size fit window reduce_jpegs gpu_jpegs encoder",
    "Head": "preset config sweep vision fusion layers width min_answer_count answers",
    "Training": "epochs patience batch_size accumulate lr ema seed order_seed group_by_image keep",
    "Running": "resume overwrite rebuild dry_run residency stage host port device engine address"
    " workers sample",
    "Comparisons": "compare ensemble shuffle_images cluster_by",
    "Output": "dtype pool sheet save_logits table report tensorboard prometheus per_question"
    " top csv save_attention",
}
"""Groups of options in the help, by the names of the options; all others stand in the last one."""
OTHERS = "Options"
GROUP_OF = {name: title for title, names in GROUPS.items() for name in names.split()}


def _write_groups(formatter: Any, groups: dict[str, list[tuple[str, str]]]) -> None:
    """Write lists of names and what they do, in the order of `GROUPS`, `OTHERS` at the end."""
    order = [FEATURES, HEADS, START, *GROUPS, OTHERS]
    for title in sorted(groups, key=order.index):
        with formatter.section(title):
            formatter.write_dl(groups[title])


class Command(TyperCommand):
    """A command whose help has groups, and of which one option needs no name.

    Typer's own groups are tables, which leave 20 of 80 columns to what an option does.
    """

    unnamed: str | None = None
    """Option that takes the words without a name: `evaluate RUN` is `evaluate --run RUN`."""

    def make_parser(self, ctx: Any) -> Any:
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_unnamed(args: list[str]) -> Any:
            found, words, order = parse(args)
            option = next((one for one in self.params if one.name == self.unnamed), None)
            if option is None or not words or ctx.resilient_parsing:
                return found, words, order
            if getattr(option, "multiple", False):
                found[option.name] = [*words, *found.get(option.name, ())]
                return found, [], order
            if option.name in found:
                ctx.fail(f"{words[0]!r} and {option.opts[0]} name two; give only one")
            found[option.name] = words[0]
            return found, words[1:], order

        parser.parse_args = parse_unnamed  # type: ignore[method-assign]
        return parser

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        for one in self.params:
            if one.name == self.unnamed:
                name = str(one.name).upper().removesuffix("S")
                pieces.append(f"{name}..." if getattr(one, "multiple", False) else name)
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups = defaultdict(list)
        for option in self.get_params(ctx):
            if record := option.get_help_record(ctx):
                groups[GROUP_OF.get(str(option.name), OTHERS)].append(record)
        _write_groups(formatter, groups)


class Group(TyperGroup):
    """The program: its help has groups of commands."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups = defaultdict(list)
        for name, command in self.commands.items():
            title = getattr(command, "rich_help_panel", None) or OTHERS
            groups[title].append((name, command.get_short_help_str(1000)))
        for option in self.get_params(ctx):
            if record := option.get_help_record(ctx):
                groups[OTHERS].append(record)
        _write_groups(formatter, groups)


def add_command(
    app: Typer,
    group: str,
    function: Callable[..., None],
    *examples: str,
    unnamed: str | None = None,
) -> None:
    """Register a function as a command; `unnamed` is as in `Command`."""
    kind = type("Command", (Command,), {"unnamed": unnamed})
    lines = "\n".join(f"  frozen-vqa {example}" for example in examples)
    app.command(cls=kind, rich_help_panel=group, epilog=f"\b\nExamples:\n{lines}")(function)
