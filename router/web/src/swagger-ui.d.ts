declare module "swagger-ui-dist/swagger-ui-es-bundle" {
  /** The part of Swagger UI that is used here. */
  interface Ui {
    preauthorizeApiKey(scheme: string, key: string): void;
  }
  export default function SwaggerUI(options: Record<string, unknown>): Ui;
}
