"""
wrk, the load generator that Debian has: one run, and what it measured.

Every figure that compares two ways to one server uses it for both, over TCP on loopback.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from msgspec import Struct

SCRIPT = """
wrk.method = "POST"
wrk.body = [==[%s]==]
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  io.write(string.format('\\n{"requests":%%d,"microseconds":%%d,"failures":%%d,"p50":%%d}\\n',
    summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write
      + summary.errors.status + summary.errors.timeout,
    latency:percentile(50)))
end
"""
SPARE_SECONDS = 20.0


class Measured(Struct, frozen=True):
    """One run."""

    per_second: float
    p50_microseconds: float


def run(url: str, body: str, *, connections: int, seconds: int) -> Measured:
    """
    Return what wrk measures with this many connections that never pause.

    Raises:
        RuntimeError: There is no wrk, or a request failed: a rate of errors is no rate.
    """
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed (apt-get install wrk)")
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "post.lua")
        script.write_text(SCRIPT % body)
        words = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, check=True
        )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["failures"] or not found["requests"]:
        raise RuntimeError(f"{url}: {done.stdout}")
    return Measured(found["requests"] / found["microseconds"] * 1e6, found["p50"])
