import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// The page is served under a strict Content-Security-Policy: no inline scripts, no inline assets.
export default defineConfig({
  plugins: [svelte()],
  build: {
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    // What draws the API's description is that large.
    chunkSizeWarningLimit: 1700,
    rollupOptions: { input: ["index.html", "docs.html"] },
  },
  server: { proxy: { "/openapi.json": "http://127.0.0.1:8080", "/v1": "http://127.0.0.1:8080", "/claim": "http://127.0.0.1:8080" } },
});
