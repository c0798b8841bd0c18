"""Git's clean filter for uv.lock: versions and hashes stay, addresses go.

    git config filter.neutral-lock.clean "python3 .ci/neutral_lock.py"

Reads a lock file on standard input, writes it to standard output without the addresses of a
package index, so that it serves behind any index or mirror. uv resolves such a file again in a
second or two, keeps every version and hash, and writes the addresses of the index at hand. Tried
with uv 0.13: the `[manifest]` members must go, or uv takes the file for complete and fails on its
paths. Sizes go too: some indexes name them and some don't, and the file should be the same behind
all of them. A file that is neutral already comes out as it went in.
"""

import re
import sys


def neutral(lock: str) -> str:
    """The lock file without addresses and sizes."""
    lock = re.sub(r'registry = "https?://[^"]*"', 'registry = "."', lock)
    lock = re.sub(r'url = "https?://[^"]*?([^/"#]+)(?:#[^"]*)?"', r'path = "\1"', lock)
    lock = re.sub(r", size = \d+", "", lock)
    return re.sub(r"^members = \[\n(?:    .*\n)*\]\n", "", lock, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8", newline="")
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    sys.stdout.write(neutral(sys.stdin.read()))
