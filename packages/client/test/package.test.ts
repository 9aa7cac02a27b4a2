import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const ROOT = `${import.meta.dirname}/..`;
const { exports } = JSON.parse(readFileSync(`${ROOT}/package.json`, "utf8"));

it.each(Object.entries<any>(exports))("%s can be had as source, too", (_part, { source, default: built }) => {
  expect(existsSync(`${ROOT}/${source}`)).toBe(true);
  expect(source.replace("/src/", "/dist/").replace(/ts$/, "js")).toBe(built);
});
