"""What each process of a Python model does first; its environment's .pth file imports this.

A stub that is still starting when its tritonserver is killed notices, and hangs in its own
clean-up for ever (Triton 2.51), with Python's lock held. So the kernel ends it: standard input is a
pipe from the process that started tritonserver, and its end raises a signal.
"""

import fcntl
import os
import select
import signal
import stat
import sys

sys.dont_write_bytecode = True  # __pycache__ in a model's folder looks like an update of the model

if stat.S_ISFIFO(os.fstat(0).st_mode):  # else somebody else started the server
    # Opened anew: the inherited description is shared with the other stubs, and has one owner only.
    pipe = os.open("/proc/self/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, 10, signal.SIGKILL)  # F_SETSIG, which Python does not name
    fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if select.select([pipe], [], [], 0)[0]:  # it ended before we asked
        os._exit(1)
