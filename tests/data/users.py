"""Run something as a user without rights, also where the tests run as one who has all."""

import os

from PIL import Image

from tests.forked import ended, fork


def as_a_user(program):
    """How a program ended that a user without rights ran: its exit code."""

    def without_rights():
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        program()

    Image.init()  # such a user may not be allowed to import more
    return ended(fork(without_rights))
