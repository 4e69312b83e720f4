"""The program that SHELL names for DVC: it hands a stage's command to the controller and waits for its exit status.

Usage: python shell.py SOCKET -c COMMAND. Up to 64 of them wait at once, so it imports nothing but the standard library.
On SIGINT it asks the controller to stop the stage, and waits on. If the controller ends, so does this program.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Hand the command over, print its output, and return its exit status."""
    place, _, command = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(place)
        signal.signal(signal.SIGINT, lambda *_: link.shutdown(socket.SHUT_WR))
        request = {"stage": os.environ["DVC_STAGE"], "command": command, "environment": dict(os.environ)}
        link.sendall(json.dumps(request).encode() + b"\n")
        for line in link.makefile("rb"):
            answer = json.loads(line)
            if "log" in answer:
                sys.stdout.write(answer["log"])
                sys.stdout.flush()
            elif "here" in answer:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.execv("/bin/sh", ["sh", "-c", command])
            else:
                return int(answer["status"])
    print("gapscope: the controller has ended", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
