// Writes a gzip and a Brotli form beside every text file of a folder, where that saves anything.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXT = /\.(css|html|js|json|map|mjs|svg|txt|webmanifest)$/;
const forms = {
  gz: (bytes) => gzipSync(bytes, { level: 9 }),
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
};

const folder = process.argv[2];
for (const name of readdirSync(folder, { recursive: true })) {
  const path = join(folder, name);
  if (!TEXT.test(name)) continue;
  const bytes = readFileSync(path);
  for (const [extension, compress] of Object.entries(forms)) {
    const smaller = compress(bytes);
    // The page itself always has its forms: they mark the build as finished.
    if (smaller.length < bytes.length || name === "index.html") writeFileSync(`${path}.${extension}`, smaller);
    else rmSync(`${path}.${extension}`, { force: true });
  }
}
