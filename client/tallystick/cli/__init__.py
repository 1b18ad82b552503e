"""The command `tallystick`: finds the command groups that are installed and joins them.

A group is a typer application that a distribution offers as an entry point of `tallystick.commands`; the client alone
has none that needs more than itself. Never import another of our packages here: they come by entry point only.
"""

import sys
from importlib.metadata import entry_points, version

GROUP = "tallystick.commands"


def main() -> None:
    """Run the command line; exit status 0 done, 1 refused, 2 wrong usage, 3 not reachable."""
    try:
        import typer
    except ImportError:
        sys.exit("The command needs the extra `cli`: pip install 'tallystick[cli]'.")
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    def show_version(asked: bool) -> None:
        if asked:
            typer.echo(version("tallystick"))
            raise typer.Exit

    @app.callback(help="Supply-chain finance on Hyperledger Fabric.")
    def root(
        _version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Show the version."
        ),
    ) -> None:
        pass

    for group in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        app.add_typer(group.load(), name=group.name)
    app()
