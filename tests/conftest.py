"""What holds for every test."""

from __future__ import annotations

import signal

# Started in the background (by nohup, by some CI runners) a process has SIGINT ignored, and so have its children:
# Ctrl-C would never become a KeyboardInterrupt, which is what several tests are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
