"""What does Lighthouse think of the page? ``python -m benchmarks.lighthouse``

It looks at the empty page as on a mid-range phone over slow 4G, which it simulates, and as on a
desktop. npm brings it (Apache-2.0) when it is asked for. It ends with 1 if a score is too low.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.servers import DeepSeek, Proxy

VERSION = "13.5.0"
#: The least of each score, of 100.
LEAST = {"performance": 95, "accessibility": 100, "best-practices": 100, "seo": 95}


def main() -> None:
    """Print the scores, and what cost some of them."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is not installed.")
    logs = Path(tempfile.mkdtemp(prefix="chatproxy-lighthouse-"))
    with (
        DeepSeek(logs / "deepseek.log") as deepseek,
        Proxy("gunicorn", deepseek.url, logs / "page.log") as proxy,
    ):
        found = {form: _look(proxy.url, form, chromium) for form in ("mobile", "desktop")}
    shutil.rmtree(logs)
    low = [form for form, report in found.items() if not _print(form, report)]
    sys.exit(1 if low else 0)


def _look(url: str, form: str, chromium: str) -> dict[str, dict[str, dict[str, object]]]:
    bin_ = Path(sys.executable).parent
    done = subprocess.run(
        [
            *("npx", "--yes", f"lighthouse@{VERSION}", url, "--quiet", "--output=json"),
            *(["--preset=desktop"] if form == "desktop" else []),
            f"--only-categories={','.join(LEAST)}",
            "--chrome-flags=--headless=new --no-sandbox --disable-gpu",
        ],
        env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "CHROME_PATH": chromium},
        check=True,
        capture_output=True,
        text=True,
    )
    report: dict[str, dict[str, dict[str, object]]] = json.loads(done.stdout)
    return report


def _print(form: str, report: dict[str, dict[str, dict[str, object]]]) -> bool:
    """Whether all scores are high enough."""
    scores = {name: round(100 * report["categories"][name]["score"]) for name in LEAST}
    print(f"{form}: " + ", ".join(f"{name} {score}" for name, score in scores.items()))
    for audit in report["audits"].values():
        if audit["score"] is not None and audit["score"] < 0.9:
            print(f"  {audit['id']}: {audit.get('displayValue') or audit['title']}")
    return all(scores[name] >= least for name, least in LEAST.items())


if __name__ == "__main__":
    main()
