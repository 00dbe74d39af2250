// Builds the pages into ../dist, which is committed and embedded into the server. With --check it builds in memory and
// fails if that is not what is in ../dist.

import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "dist");

// What has a URL of its own: the shell, which loads pages as they are wanted, and what runs in workers and worklets.
const entries = {
  shell: "shell/main.ts",
  "file-worker": "file/worker.ts",
  worklet: "../media/src/worklet.ts",
};

const { outputFiles } = await build({
  absWorkingDir: here, // what is built must not depend on where
  entryPoints: entries,
  outdir: dist,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["chrome110", "firefox115", "safari16.4"],
  minify: true,
  chunkNames: "[name]-[hash]",
  write: false,
  logLevel: "warning",
});
const files = new Map(outputFiles.map((f) => [relative(dist, f.path), f.contents]));
for (const name of ["index.html", "icon.svg"]) files.set(name, await readFile(join(here, "shell", name)));

const there = await readdir(dist).catch(() => []);
if (process.argv.includes("--check")) {
  const bad = new Set([...files.keys(), ...there]);
  for (const name of bad) {
    const now = await readFile(join(dist, name)).catch(() => undefined);
    if (now && files.has(name) && Buffer.compare(now, files.get(name)) === 0) bad.delete(name);
  }
  if (bad.size > 0) {
    console.error(`error: web/dist is not what the sources give (${[...bad].join(", ")}): run make web, and commit`);
    process.exit(1);
  }
} else {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist, { recursive: true });
  for (const [name, body] of files) await writeFile(join(dist, name), body);
}
