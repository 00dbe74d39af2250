// Builds the pages into ../dist and the console into ../console, which are committed and embedded into the server. With
// --check it builds in memory and fails if that is not what is there.

import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

// What has a URL of its own. Of the pages: the shell, which loads pages as they are wanted, and what runs in workers and
// worklets. The console, which operators alone see, is all in one.
const bundles = [
  {
    into: "dist",
    entries: { shell: "shell/main.ts", "file-worker": "file/worker.ts", worklet: "../media/src/worklet.ts" },
    copied: ["shell/index.html", "shell/icon.svg"],
  },
  { into: "console", entries: { console: "console/main.ts" }, copied: ["console/index.html", "shell/icon.svg"] },
];

for (const { into, entries, copied } of bundles) {
  const dir = join(here, "..", into);
  const { outputFiles } = await build({
    absWorkingDir: here, // what is built must not depend on where
    entryPoints: entries,
    outdir: dir,
    bundle: true,
    splitting: true,
    format: "esm",
    target: ["chrome110", "firefox115", "safari16.4"],
    minify: true,
    chunkNames: "[name]-[hash]",
    write: false,
    logLevel: "warning",
  });
  const files = new Map(outputFiles.map((f) => [relative(dir, f.path), f.contents]));
  for (const path of copied) files.set(path.split("/").at(-1), await readFile(join(here, path)));

  const there = await readdir(dir).catch(() => []);
  if (process.argv.includes("--check")) {
    const bad = new Set([...files.keys(), ...there]);
    for (const name of bad) {
      const now = await readFile(join(dir, name)).catch(() => undefined);
      if (now && files.has(name) && Buffer.compare(now, files.get(name)) === 0) bad.delete(name);
    }
    if (bad.size > 0) {
      console.error(`error: web/${into} is not what the sources give (${[...bad].join(", ")}): run make web, and commit`);
      process.exitCode = 1;
    }
  } else {
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    for (const [name, body] of files) await writeFile(join(dir, name), body);
  }
}
