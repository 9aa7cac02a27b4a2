import { readdirSync, readFileSync } from "node:fs";

const FOLDER = new URL("./corpus/", import.meta.url);

/**
 * The cases of the corpus; see its README.
 * @type {{title: string, source: string, expected: string}[]}
 */
export const CASES = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".txt"))
  .flatMap((name) => {
    const [, ...cases] = readFileSync(new URL(name, FOLDER), "utf8").split(/^=== /m);
    return cases.map((each) => {
      const [head = "", expected = ""] = each.split("\n===>\n");
      const [title = "", ...lines] = head.split("\n");
      return {
        title: `${name}: ${title}`,
        source: lines.join("\n"),
        expected: expected.split("\n").join("").trim(),
      };
    });
  });
