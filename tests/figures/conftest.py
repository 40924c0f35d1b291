"""What the tests of the figures share: a check of a figure's command, and of a command that is refused."""

import pytest

import _enresnet


@pytest.fixture
def check_command(monkeypatch, tmp_path, capsys):
    """Run the command of a figure module, and again with --replot; return its record, what it printed, the picture.

    It writes picture, arrays and record, prints their paths, and draws the same picture from the arrays alone. `data`,
    if given, replaces what the figure would compute.
    """

    def check(figure, *arguments, data=None):
        name = figure.__name__.rpartition(".")[2]
        files = [tmp_path / "out" / f"{name}.{end}" for end in ("png", "npz", "json")]
        if data is not None:
            monkeypatch.setattr(figure, "compute", lambda **_: data)
        figure.main([*map(str, arguments), "--out", str(tmp_path / "out")])
        paths, _, printed = capsys.readouterr().out.partition("\n\n")
        assert paths.split() == [str(file) for file in files]
        assert sorted((tmp_path / "out").iterdir()) == sorted(files)
        picture = files[0].read_bytes()
        files[0].unlink()
        monkeypatch.setattr(figure, "compute", None)
        figure.main(["--replot", "--out", str(tmp_path / "out")])
        assert files[0].read_bytes() == picture
        assert capsys.readouterr().out.partition("\n\n")[2] == printed
        return _enresnet.read_record(files[2]), printed, picture

    return check


@pytest.fixture
def refused(capsys):
    """Run a command that must end with status 2 and one line on standard error; return the line."""

    def refused(main, *arguments):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        out, line = capsys.readouterr()
        assert (stop.value.code, out, line.count("\n")) == (2, "", 1)
        return line

    return refused
