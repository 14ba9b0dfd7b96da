import pytest

from tests.cli.commands import refusal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "preset is 'huge'; legal are cpu, gpu, smoke"),
        (["--only", 9], "only is 9; legal are"),
        (["-p", "sede=1"], "parameter is 'sede'; legal in"),
        (["-p", "seed"], "parameter is 'seed'; it must be NAME=VALUE"),
        (["--notebooks", "nowhere"], "notebooks is 'nowhere'"),
        (["--hand-in", "RUN", "--pack", "RUN"], "pack is given; it does not go with hand-in"),
        (["--hand-in", "RUN", "--preset", "gpu"], "preset is given; it does not go with hand-in"),
        (["--hand-in", "RUN", "--force"], "force is given; it does not go with hand-in"),
        (["--pack", "RUN", "-p", "seed=1"], "parameter is given; it does not go with pack"),
        (["--pack", "RUN", "--out", "RUN"], "out is given; it does not go with pack"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(arguments, message, tmp_path):
    assert message in refusal(["chapters", *arguments], tmp_path)
