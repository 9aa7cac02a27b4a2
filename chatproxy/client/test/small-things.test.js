import { describe, expect, it } from "vitest";

import { readSimulate } from "../src/lib/page-settings.js";
import { safeLink } from "../src/markdown/safe-link.js";
import { duration, stopLine } from "../src/lib/sentences.js";

describe("safeLink", () => {
  it.each(["https://example.com/a?b=c#d", "http://example.com/", "mailto:a@example.com"])(
    "lets %s through",
    (href) => expect(safeLink(href)).toBe(href),
  );

  it.each([
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\nscript:alert(1)",
    "java\tscript:alert(1)",
    "\u0001javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "blob:https://example.com/x",
    "file:///etc/passwd",
    "/relative",
    "//example.com",
    "",
  ])("does not make a link of %j", (href) => expect(safeLink(href)).toBeNull());
});

describe("stopLine", () => {
  it.each([
    [{ stopMs: 2.6, events: 42, upstreamClosed: true }, "stopped in 3 ms, 42 chunks received"],
    [{ stopMs: 0.2, events: 1, upstreamClosed: true }, "stopped in 1 ms, 1 chunk received"],
    [{ events: 0 }, "0 chunks received"],
  ])("%j", (receipt, line) => {
    expect(stopLine({ receipt })).toBe(line);
    expect(stopLine({ stop: "stopped", receipt })).toBe(line);
  });

  it("promises nothing that the server did not confirm", () => {
    const receipt = { stopMs: 2000, events: 4, upstreamClosed: false };
    expect(stopLine({ stop: "unconfirmed", receipt })).toMatch(/not confirmed/);
    expect(stopLine({ stop: "unconfirmed" })).toMatch(/not confirmed/);
    expect(stopLine({ stop: "nothing-to-stop" })).toMatch(/nothing to stop/);
    expect(stopLine({ stop: "refused" })).toMatch(/refused/);
  });
});

describe("duration", () => {
  it("is in seconds, then in minutes", () => {
    expect([0, 12_300, 60_000, 125_000].map(duration)).toEqual(["0 s", "12 s", "1 min 0 s", "2 min 5 s"]);
  });
});

describe("readSimulate", () => {
  it("reads the query or the hash, and passes over what is mistyped", () => {
    const text = encodeURIComponent('{"rate":5}');
    expect(readSimulate({ search: `?simulate=${text}`, hash: "" })).toEqual({ rate: 5 });
    expect(readSimulate({ search: "", hash: `#simulate=${text}` })).toEqual({ rate: 5 });
    expect(readSimulate({ search: "?simulate={", hash: "" })).toBeUndefined();
    expect(readSimulate({ search: "", hash: "" })).toBeUndefined();
  });
});
