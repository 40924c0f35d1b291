"""Lessons with sliders, in the browser and offline: python -m lessons [--port P] [--no-browser].

Starts a server on 127.0.0.1 and opens its index of lessons; Ctrl-C ends it. No other machine is contacted.

These options, which can be combined, start no server: --html DIR writes every lesson as a page that opens from disk,
without Python, server or network (some minutes); --handout [NAME ...] prints lessons to OUT/NAME.pdf (needs Chromium);
--ipynb [NAME ...] writes OUT/NAME.ipynb for Jupyter and Colab, where sliders are changed in the code.

Needs the extras "nets" and "teach". On two cores the first picture of a lesson comes after about five seconds; a
handout or a notebook takes a few.
"""

import importlib.util
import os
import sys
import webbrowser
from pathlib import Path

import _enresnet
from lessons import LESSONS

PROG = "python -m lessons"
DEFAULT_PORT = 2718


def main(argv=None):
    """Run the command line and return its exit status; argv defaults to the arguments of the process."""
    parser = _enresnet.OneLineParser(PROG, __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="lessons to print or write (default all)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"port, 0: any free one (default {DEFAULT_PORT})"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address, without opening a browser")
    parser.add_argument("--handout", action="store_true", help="print lessons to PDFs in --out; no server")
    parser.add_argument("--ipynb", action="store_true", help="write lessons as Jupyter notebooks into --out; no server")
    parser.add_argument(
        "--html", type=_enresnet.output_path, metavar="DIR", help="write lessons as pages into DIR; no server"
    )
    parser.add_argument(
        "--out", type=_enresnet.output_path, default=Path("out"), help="directory of PDFs and notebooks (default out)"
    )
    parser.add_argument("--package", help="package that a notebook's first cell installs by pip if it is missing")
    arguments = parser.parse_args(argv)
    known = [lesson.name for lesson in LESSONS]
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no lesson {', '.join(unknown)}; there are {', '.join(known)}")
    if arguments.names and not (arguments.handout or arguments.ipynb or arguments.html):
        parser.error("NAME goes with --handout, --ipynb or --html: the index has all lessons")
    arguments.names = arguments.names or known
    # Before PyTorch is loaded. The lessons' tensors are small: a second thread of OpenMP gains nothing, and on a busy
    # machine, where threads spin while they wait, it makes a lesson many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _enresnet.run(lambda: _run(arguments), PROG, also=[(RuntimeError, "")])
    return 0


def _run(arguments):
    _need("torch", "nets")
    _need("marimo", "teach")
    if arguments.handout or arguments.ipynb or arguments.html:
        _export(arguments)
    else:
        _serve(arguments)


def _need(module, extra):
    if importlib.util.find_spec(module) is None:
        raise ValueError(f'{module} is not installed: pip install -e ".[nets,teach]" (extra "{extra}")')


def _export(arguments):
    from lessons import _export

    directory = arguments.out
    if arguments.handout or arguments.ipynb:
        _enresnet.writable_directory(directory, "--out")
    if arguments.html:
        _enresnet.writable_directory(arguments.html, "--html")
        _need("latex2mathml", "teach")
        from lessons._html import write_pages

        for path in write_pages(arguments.names, arguments.html, _export.write):
            print(path, flush=True)
    if arguments.ipynb:
        _need("nbformat", "teach")
        for path in _export.write_notebooks(arguments.names, directory, arguments.package or _export.PACKAGE):
            print(path, flush=True)
    if arguments.handout:
        for path in _export.write_handouts(arguments.names, directory):
            print(path, flush=True)


def _serve(arguments):
    from lessons import _server

    connection = _server.listen(arguments.port)
    address = _server.address_of(connection)

    def ready():
        print(f"Lessons at {address} (Ctrl-C ends)", flush=True)
        if not arguments.no_browser:
            webbrowser.open(address)

    _server.serve(connection, ready=ready)


if __name__ == "__main__":
    sys.exit(main())
