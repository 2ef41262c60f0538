"""The entry of the command line: Ctrl-C is answered from here on, so what takes time is imported later."""

import sys


def main() -> None:
    """Run a command; an error that the user can mend is one line without a traceback."""
    try:
        from rephase.processes import status_of

        status = status_of(_command)
    except KeyboardInterrupt:  # before or after `status_of` answers it
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
