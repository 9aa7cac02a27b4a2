"""``@chatproxy/client`` as ``npm pack`` makes it, in new projects: its types, its build, its size.

The tarball is installed by npm, which finds its one dependency in its cache. The tools, React and
the AI SDK are those that the package itself is tested with.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .support.servers import ROOT, clean_environment

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "packages" / "client"
TOOLS = PACKAGE / "node_modules"
TOOL = TOOLS / ".bin"
BIN = Path(sys.executable).parent
LINKED = ("@ai-sdk", "@types", "ai", "react", "react-dom", "typescript", "vite")

#: As the templates of ``npm create vite`` have them, and stricter.
TSCONFIG = {
    "compilerOptions": {
        "target": "es2023",
        "lib": ["ES2023", "DOM", "DOM.Iterable"],
        "module": "esnext",
        "moduleResolution": "bundler",
        "jsx": "react-jsx",
        "types": ["vite/client"],
        "noEmit": True,
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "noUncheckedIndexedAccess": True,
        "noUnusedLocals": True,
        "noUnusedParameters": True,
        "noFallthroughCasesInSwitch": True,
        "erasableSyntaxOnly": True,
        "verbatimModuleSyntax": True,
        "skipLibCheck": True,
    },
    "include": ["src"],
}

VANILLA = """
import {
  createSessionId, createView, listRunning, resumeFor, resumeStream, stopChat, streamChat,
  type AnswerEnd, type AnswerStatus, type StopState,
} from "@chatproxy/client";

const output = document.querySelector<HTMLOutputElement>("output")!;
const status = document.querySelector<HTMLElement>("small")!;
const sessionId: string = createSessionId();
const closing = new AbortController();
const view = createView();
const reading = {
  sessionId, view, signal: closing.signal, resume: resumeFor(30),
  onText: (text: string) => output.append(text),
  onStatus: (now: AnswerStatus) => void (status.textContent = now),
};

document.querySelector("button")!.onclick = async () => {
  const stop: StopState = await stopChat(sessionId, { closing });
  switch (stop.state) {
    case "stopped": status.textContent = `stopped in ${stop.receipt.stopMs} ms`; break;
    case "refused": status.textContent = stop.message; break;
    case "unconfirmed": status.textContent = `${stop.receipt?.events ?? "?"} events`; break;
    case "nothing-to-stop": status.textContent = "nothing to stop";
  }
};

const payload = { messages: [{ role: "user", content: "Hello" }] };
const end: AnswerEnd = (await listRunning()).includes(sessionId)
  ? await resumeStream({ ...reading, after: 0 })
  : await streamChat({ ...reading, payload });
status.textContent = end.error?.message ?? end.outcome;
"""

REACT = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { ChatProxyTransport } from "@chatproxy/client/ai-sdk";
import { useAnswer } from "@chatproxy/client/react";

const transport = new ChatProxyTransport({
  reconnectSeconds: 30,
  onStop: (stop) => console.log(stop.chatId, stop.state === "stopped" && stop.receipt.events),
});

function Answer() {
  const { ask, stop, state, text, stopState } = useAnswer({ resumeKey: "a", reconnectSeconds: 30 });
  return (
    <button onClick={() => (state === "running" ? stop() : ask({ messages: [] }))}>
      {text} {stopState?.state === "stopped" && stopState.receipt.stopMs}
    </button>
  );
}

function Chat() {
  const { messages, sendMessage, stop } = useChat({ transport, resume: true });
  return (
    <p onClick={() => sendMessage({ text: "Hello" })} onBlur={stop}>
      {messages.length}
    </p>
  );
}

createRoot(document.body).render(<StrictMode><Answer /><Chat /></StrictMode>);
"""

PAGES = """
export default { build: { rolldownOptions: { input: ["vanilla.html", "react.html"] } } };
"""
PARTS = ("@chatproxy/client", "@chatproxy/client/react", "@chatproxy/client/ai-sdk")
#: Makes a bundle of each part that has no more than the part, minified.
BUILD = """
import { writeFileSync } from "node:fs";
import { build } from "vite";

const [, , ...parts] = process.argv;
for (const [at, part] of parts.entries()) {
  writeFileSync("alone.ts", `export * from "${part}";`);
  await build({
    configFile: false,
    logLevel: "warn",
    build: {
      emptyOutDir: false,
      lib: { entry: "alone.ts", formats: ["es"], fileName: `part-${at}` },
      minify: "oxc",
      outDir: "parts",
      rolldownOptions: { external: ["react", "ai"], output: { minify: true } },
    },
  });
}
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = clean_environment(PATH=f"{BIN}:/usr/bin:/bin", npm_config_update_notifier="false")
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has the packed package installed, and nothing of its own yet."""
    if not TOOLS.exists():
        pytest.skip("The tools of packages/client are not installed")
    project = tmp_path_factory.mktemp("project")
    run("npm", "pack", "--silent", "--pack-destination", project, cwd=PACKAGE)
    [tarball] = project.glob("*.tgz")
    (project / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    quiet = ("--silent", "--no-audit", "--no-fund", "--prefer-offline", "--legacy-peer-deps")
    run("npm", "install", *quiet, tarball, cwd=project)
    for name in LINKED:
        (project / "node_modules" / name).symlink_to(TOOLS / name)
    (project / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    return project


def test_the_tarball_holds_what_is_to_be_had_and_nothing_else(project: Path) -> None:
    installed = project / "node_modules" / "@chatproxy" / "client"
    top = {path.name for path in installed.iterdir() if path.name != "node_modules"}
    assert top == {"LICENSE", "README.md", "dist", "package.json", "src"}
    names = {path.stem for path in (installed / "src").iterdir()}
    built = {path.name for path in (installed / "dist").iterdir()}
    ends = (".js", ".js.map", ".d.ts", ".d.ts.map")
    assert built == {name + end for name in names for end in ends}
    dependencies = json.loads((installed / "package.json").read_text())["dependencies"]
    assert list(dependencies) == ["eventsource-parser"]


def test_new_projects_have_their_types_and_build(project: Path) -> None:
    """One without a framework, and one with React: two pages of one build."""
    (project / "src").mkdir()
    for name, source in {"vanilla.ts": VANILLA, "react.tsx": REACT}.items():
        (project / "src" / name).write_text(source)
        page = (project / name).with_suffix(".html")
        page.write_text(f'<script type="module" src="/src/{name}"></script>')
    (project / "vite.config.js").write_text(PAGES)
    run(TOOL / "tsc", cwd=project)
    run(TOOL / "vite", "build", "--logLevel", "warn", "--target", "es2023", cwd=project)
    built = [path.read_text() for path in (project / "dist" / "assets").glob("*.js")]
    for said in ("/cancel/", "nothing to stop", "onBlur"):
        assert any(said in script for script in built), said
    assert {path.name for path in (project / "dist").glob("*.html")} == {
        "vanilla.html",
        "react.html",
    }


def test_node_finds_every_part(project: Path) -> None:
    code = "import('@chatproxy/client').then((all) => console.log(Object.keys(all).join()))"
    assert "createSessionId,createView,listRunning" in run("node", "-e", code, cwd=project)
    for part in ("react", "ai-sdk"):
        run("node", "-e", f"await import('@chatproxy/client/{part}')", cwd=project)


def test_its_size_is_what_the_readme_says(project: Path) -> None:
    readme = (PACKAGE / "README.md").read_text()
    (project / "build.js").write_text(BUILD)
    run("node", "build.js", *PARTS, cwd=project)
    for at, part in enumerate(PARTS):
        [said] = re.findall(rf"^\| `{part}` \| ([\d.]+) kB \|$", readme, re.MULTILINE)
        built = (project / "parts" / f"part-{at}.js").read_bytes()
        size = len(gzip.compress(built, 9)) / 1000
        assert size == pytest.approx(float(said), abs=0.15), part
