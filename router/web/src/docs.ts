// The API's description as a page on which each call can be tried, with the key that this browser remembers.

import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle";
import "swagger-ui-dist/swagger-ui.css";

import { memory } from "./lib/storage";

const ui = SwaggerUI({
  dom_id: "#docs",
  url: "/openapi.json",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  // It would ask a server on the internet to check the description.
  validatorUrl: null,
  onComplete: () => {
    const key = memory.key();
    if (key) ui.preauthorizeApiKey("key", key);
  },
});
