"""Entry point of the command line. Ctrl-C is handled from here on, so slow imports come later."""

import sys


def main() -> None:
    """Run a command; an error that the user can fix is printed as one line without a traceback."""
    try:
        from rephase.processes import status_of

        status = status_of(_command)
    except KeyboardInterrupt:  # before or after `status_of` handles it
        sys.stderr.write("interrupted\n")
        status = 130
    raise SystemExit(status)


def _command() -> object:
    from rephase.commands import app

    return app(standalone_mode=False)


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(f"module 'rephase.cli' has no attribute {name!r}")
    from rephase.commands import app

    return app


if __name__ == "__main__":
    main()
