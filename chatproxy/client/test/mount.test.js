import { expect, it } from "vitest";

import { keysWith, partOf } from "../src/lib/browser-storage.js";
import { addressAt, API, mountOf } from "../src/lib/mount.js";
import { storageOf } from "./storage.js";

const DRAFT = "chatproxy.draft.";

it.each([
  ["https://a.example", "/"],
  ["https://a.example/?simulate={}#/chat/1", "/"],
  ["https://a.example/globex/?q=/x/#/chat/1", "/globex/"],
  ["https://a.example/a%20b/c/index.html", "/a%20b/c/"],
  [undefined, "/"],
])("a page at %s is mounted at %s", (address, mount) => {
  expect(mountOf(address)).toBe(mount);
  expect([addressAt("page.json"), API]).toEqual(["/page.json", "/api/chat"]);
});

it("a part of a storage has nothing of the other parts, but for what they share", () => {
  const storage = storageOf();
  const [acme, globex] = ["/acme/:", "/globex/:"].map((prefix) =>
    partOf(storage, prefix, new Set(["chatproxy.theme"])),
  );
  acme?.setItem(DRAFT, "Acme's");
  acme?.setItem("chatproxy.theme", "dark");
  expect([acme?.getItem(DRAFT), acme && keysWith(acme, DRAFT)]).toEqual(["Acme's", [DRAFT]]);
  for (const other of [storage, globex]) {
    expect([other?.getItem(DRAFT), other?.getItem("chatproxy.theme")]).toEqual([null, "dark"]);
    expect(other && keysWith(other, DRAFT)).toEqual([]);
  }
});
